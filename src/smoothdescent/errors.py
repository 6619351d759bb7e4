"""The one exception for mistakes that a user can make and mend."""


class UserError(Exception):
    """A problem in the user's input, told in one sentence.

    The sentence names the file and the key or argument, what was found and what was expected.
    The command line prints it without a traceback and exits with status 2.
    """

    def __str__(self) -> str:
        # Libraries' own messages, which some of ours quote, may have several lines.
        return " ".join(super().__str__().splitlines())
