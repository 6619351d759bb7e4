"""Whole processor vectors for kernels that numba compiles.

A compiler that has to find the vectors in a loop by itself reaches a third of the processor's speed
in a convolution of few channels. Here a kernel says which numbers stay in registers:

- a *vector* is `VECTOR` neighbouring numbers of an array;
- a *tile* is a tuple of R x C vectors, row by row, which a kernel keeps in registers while it adds
  products to them: of R numbers, one for each row, with C vectors, one for each column.

Arrays are one-dimensional. Indices are not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

# Sixteen float32 fill a register of AVX-512, eight one of AVX2; narrower registers share the work.
VECTOR = 16 if binding.get_host_cpu_features().get("avx512f") else 8

_INDEX = ir.IntType(32)


class Vector(types.Type):
    """`VECTOR` numbers of a type."""

    def __init__(self, dtype: types.Type):
        super().__init__(f"Vector({dtype}, {VECTOR})")
        self.dtype = dtype


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector):
        element = manager.lookup(vector.dtype).get_value_type()
        super().__init__(manager, vector, ir.VectorType(element, VECTOR))


@intrinsic
def get(context, array, index):
    """Return array[index], where numba's own would ask whether the index is negative."""

    def generate(context, builder, signature, arguments):
        return builder.load(_Pointer(context, builder, signature, arguments, 0, 1).at(0))

    return array.dtype(array, types.intp), generate


@intrinsic(prefer_literal=True)
def zeros(context, like, count):
    """Return a tile of `count` (a literal) vectors of zeros, of the type of the array `like`."""
    tile = types.UniTuple(Vector(like.dtype), count.literal_value)

    def generate(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(tile), None)

    return tile(like, count), generate


@intrinsic
def filled(context, like, number):
    """Return a tile of the shape of `like` that holds one number."""

    def generate(context, builder, signature, arguments):
        vector = context.get_value_type(like.dtype)
        repeated = _repeated(builder, arguments[1], vector)
        return cgutils.pack_array(builder, [repeated] * len(like))

    return like(like, like.dtype.dtype), generate


@intrinsic(prefer_literal=True)
def load(context, array, index, columns):
    """Return `columns` (a literal) neighbouring vectors."""
    tile = types.UniTuple(Vector(array.dtype), columns.literal_value)

    def generate(context, builder, signature, arguments):
        at = _Pointer(context, builder, signature, arguments, 0, 1)
        vectors = [at.load_vector(c * VECTOR) for c in range(len(tile))]
        return cgutils.pack_array(builder, vectors)

    return tile(array, types.intp, columns), generate


@intrinsic(prefer_literal=True)
def load_rows(context, array, index, step, like, columns):
    """Return a tile of as many vectors as `like` has, row r from `index` + r `step`.

    Each row has `columns` (a literal) of them.
    """
    width = columns.literal_value

    def generate(context, builder, signature, arguments):
        at = _Pointer(context, builder, signature, arguments, 0, 1)
        vectors = [
            at.load_vector(k % width * VECTOR, _times(builder, arguments[2], k // width))
            for k in range(len(like))
        ]
        return cgutils.pack_array(builder, vectors)

    return like(array, types.intp, types.intp, like, columns), generate


@intrinsic
def repeat(context, array, index, like):
    """Return a tile of the shape of `like`, [R, 2], whose row r is array[index + r] repeated."""

    def generate(context, builder, signature, arguments):
        at = _Pointer(context, builder, signature, arguments, 0, 1)
        vectors = [at.load_repeated(k // 2) for k in range(len(like))]
        return cgutils.pack_array(builder, vectors)

    return like(array, types.intp, like), generate


@intrinsic
def multiply_add(context, tile, columns, array, index):
    """Return tile[r, c] + array[index + r] * columns[c]."""
    count = len(columns)

    def generate(context, builder, signature, arguments):
        vectors, columns = (cgutils.unpack_tuple(builder, arguments[k]) for k in (0, 1))
        at = _Pointer(context, builder, signature, arguments, 2, 3)
        result = []
        for r in range(len(tile) // count):
            factor = at.load_repeated(r)
            for c in range(count):
                result.append(_fma(builder, factor, columns[c], vectors[r * count + c]))
        return cgutils.pack_array(builder, result)

    return tile(tile, columns, array, types.intp), generate


@intrinsic
def plus(context, tile, other):
    """Return the sum of two tiles."""

    def generate(context, builder, signature, arguments):
        pairs = zip(*(cgutils.unpack_tuple(builder, tuple_) for tuple_ in arguments), strict=True)
        return cgutils.pack_array(builder, [builder.fadd(a, b) for a, b in pairs])

    return tile(tile, tile), generate


@intrinsic
def add_products(context, tile, a, b):
    """Return tile + a * b, vector by vector."""

    def generate(context, builder, signature, arguments):
        vectors = zip(*(cgutils.unpack_tuple(builder, each) for each in arguments), strict=True)
        return cgutils.pack_array(builder, [_fma(builder, a, b, c) for c, a, b in vectors])

    return tile(tile, tile, tile), generate


@intrinsic
def add_outer(context, tile, rows, columns):
    """Return tile[r, c] + rows[r] * columns[c], all of them vectors."""

    def generate(context, builder, signature, arguments):
        vectors, rows, columns = (cgutils.unpack_tuple(builder, each) for each in arguments)
        pairs = [(row, column) for row in rows for column in columns]
        result = [_fma(builder, *pair, v) for pair, v in zip(pairs, vectors, strict=True)]
        return cgutils.pack_array(builder, result)

    return tile(tile, rows, columns), generate


@intrinsic
def add_totals(context, array, index, step, apart, tile, rows):
    """Add the sum of each vector of a tile [R, C] to an array: at `index` + r `step` + c `apart`.

    `rows` is a tile of R vectors.
    """
    columns = len(tile) // len(rows)

    def generate(context, builder, signature, arguments):
        at = _Pointer(context, builder, signature, arguments, 0, 1)
        for k, vector in enumerate(cgutils.unpack_tuple(builder, arguments[4])):
            r, c = divmod(k, columns)
            offset = _times(builder, arguments[2], r)
            place = at.at(0, builder.add(offset, _times(builder, arguments[3], c)))
            builder.store(builder.fadd(builder.load(place), _total(builder, vector)), place)
        return context.get_dummy_value()

    return types.void(array, *(types.intp,) * 3, tile, rows), generate


@intrinsic
def total(context, tile):
    """Return the sum of all numbers of a tile."""

    def generate(context, builder, signature, arguments):
        first, *others = cgutils.unpack_tuple(builder, arguments[0])
        for other in others:
            first = builder.fadd(first, other)
        return _total(builder, first)

    return tile.dtype.dtype(tile), generate


@intrinsic
def keep_larger(context, best, places, tile, place):
    """Return, number by number, the larger of `best` and `tile`, and the place where it was found.

    Of equal numbers `best` stays; NaN is larger than any number.
    """
    both = types.Tuple((best, best))

    def generate(context, builder, signature, arguments):
        best, places, tile = (cgutils.unpack_tuple(builder, arguments[k]) for k in range(3))
        place = _repeated(builder, arguments[3], tile[0].type)
        larger = [
            builder.or_(
                builder.fcmp_ordered(">", new, old), builder.fcmp_unordered("uno", new, new)
            )
            for new, old in zip(tile, best, strict=True)
        ]
        kept = [builder.select(*three) for three in zip(larger, tile, best, strict=True)]
        where = [builder.select(yes, place, old) for yes, old in zip(larger, places, strict=True)]
        parts = [cgutils.pack_array(builder, part) for part in (kept, where)]
        return context.make_tuple(builder, both, parts)

    return both(best, best, best, best.dtype.dtype), generate


@intrinsic
def rectify(context, tile):
    """Return max(tile, 0); NaN stays."""

    def generate(context, builder, signature, arguments):
        vectors = cgutils.unpack_tuple(builder, arguments[0])
        return _where_not_flat(builder, vectors, vectors)

    return tile(tile), generate


@intrinsic
def pass_rectified(context, tile, gradient):
    """Return the gradient where a rectified tile is not 0, and 0 elsewhere; NaN lets it pass."""

    def generate(context, builder, signature, arguments):
        return _where_not_flat(builder, *(cgutils.unpack_tuple(builder, a) for a in arguments))

    return tile(tile, tile), generate


@intrinsic
def store(context, array, index, step, tile):
    """Put a tile [R, 2] into an array: row r at `index` + r `step`."""

    def generate(context, builder, signature, arguments):
        at = _Pointer(context, builder, signature, arguments, 0, 1)
        for k, vector in enumerate(cgutils.unpack_tuple(builder, arguments[3])):
            at.store_vector(vector, k % 2 * VECTOR, _times(builder, arguments[2], k // 2))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, tile), generate


@intrinsic
def scatter(context, array, index, step, tile):
    """Put a tile [R, 2] into an array: number k of the row r at `index` + k `step` + r."""

    def generate(context, builder, signature, arguments):
        at = _Pointer(context, builder, signature, arguments, 0, 1)
        for k, vector in enumerate(cgutils.unpack_tuple(builder, arguments[3])):
            for lane in range(VECTOR):
                offset = _times(builder, arguments[2], k % 2 * VECTOR + lane)
                number = builder.extract_element(vector, _INDEX(lane))
                builder.store(number, at.at(k // 2, offset))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, tile), generate


@intrinsic
def gather(context, array, index, step, like):
    """Return a tile of the shape of `like` as `scatter` has put it into an array."""

    def generate(context, builder, signature, arguments):
        at = _Pointer(context, builder, signature, arguments, 0, 1)
        vectors = []
        for k in range(len(like)):
            vector = ir.Constant(at.vector, ir.Undefined)
            for lane in range(VECTOR):
                offset = _times(builder, arguments[2], k % 2 * VECTOR + lane)
                number = builder.load(at.at(k // 2, offset))
                vector = builder.insert_element(vector, number, _INDEX(lane))
            vectors.append(vector)
        return cgutils.pack_array(builder, vectors)

    return like(array, types.intp, types.intp, like), generate


@intrinsic
def add(context, array, index, step, tile, rows):
    """Add a tile [R, C] to an array: row r at `index` + r `step`.

    `rows` is a tile of R vectors.
    """
    columns = len(tile) // len(rows)

    def generate(context, builder, signature, arguments):
        at = _Pointer(context, builder, signature, arguments, 0, 1)
        for k, vector in enumerate(cgutils.unpack_tuple(builder, arguments[3])):
            place = k % columns * VECTOR, _times(builder, arguments[2], k // columns)
            at.store_vector(builder.fadd(at.load_vector(*place), vector), *place)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, tile, rows), generate


@intrinsic
def add_window(context, array, index, row, weights, first, apart, factor, like):
    """Add vectors times a factor to a window of the shape of `like`, [3, C].

    Args:
        array, index: where the window begins.
        row: numbers from one of its rows to the next.
        weights, first: where the vectors begin, `apart` numbers from one row to the next.
        factor: a number.
        like: a tile.
    """
    columns = len(like) // 3

    def generate(context, builder, signature, arguments):
        at = _Pointer(context, builder, signature, arguments, 0, 1)
        source = _Pointer(context, builder, signature, arguments, 3, 4)
        factor = _repeated(builder, arguments[6], at.vector)
        for r in range(3):
            offset, weight = (_times(builder, arguments[k], r) for k in (2, 5))
            for c in range(columns):
                vector = source.load_vector(c * VECTOR, weight)
                there = at.load_vector(c * VECTOR, offset)
                at.store_vector(_fma(builder, factor, vector, there), c * VECTOR, offset)
        return context.get_dummy_value()

    integers = (types.intp,) * 2
    return types.void(array, *integers, weights, *integers, array.dtype, like), generate


@intrinsic
def multiply_add_window(context, tile, array, index, row, factor):
    """Return a tile [3, C] plus a factor times the window that begins at an index.

    Its three rows are `row` numbers from each other.
    """
    columns = len(tile) // 3

    def generate(context, builder, signature, arguments):
        vectors = cgutils.unpack_tuple(builder, arguments[0])
        at = _Pointer(context, builder, signature, arguments, 1, 2)
        factor = _repeated(builder, arguments[4], at.vector)
        result = []
        for k, vector in enumerate(vectors):
            offset = _times(builder, arguments[3], k // columns)
            there = at.load_vector(k % columns * VECTOR, offset)
            result.append(_fma(builder, factor, there, vector))
        return cgutils.pack_array(builder, result)

    return tile(tile, array, types.intp, types.intp, array.dtype), generate


class _Pointer:
    """The address of `array[index]`, both of them arguments of an intrinsic."""

    def __init__(self, context, builder, signature, arguments, array: int, index: int):
        kind = signature.args[array]
        data = context.make_array(kind)(context, builder, arguments[array]).data
        self.builder = builder
        self.pointer = builder.gep(data, [arguments[index]])
        self.vector = context.get_value_type(Vector(kind.dtype))
        self.alignment = self.vector.element.get_abi_alignment(context.target_data)

    def at(self, constant: int, offset: ir.Value | None = None) -> ir.Value:
        """Return the address so many numbers further."""
        pointer = self.builder.gep(self.pointer, [ir.IntType(64)(constant)])
        return pointer if offset is None else self.builder.gep(pointer, [offset])

    def _vector(self, constant: int, offset: ir.Value | None) -> ir.Value:
        return self.builder.bitcast(self.at(constant, offset), self.vector.as_pointer())

    def load_vector(self, constant: int, offset: ir.Value | None = None) -> ir.Value:
        """Return the vector so many numbers further."""
        return self.builder.load(self._vector(constant, offset), align=self.alignment)

    def load_repeated(self, constant: int) -> ir.Value:
        """Return a vector of equal numbers."""
        return _repeated(self.builder, self.builder.load(self.at(constant)), self.vector)

    def store_vector(self, value: ir.Value, constant: int, offset: ir.Value | None = None) -> None:
        """Store a vector."""
        self.builder.store(value, self._vector(constant, offset), align=self.alignment)


def _where_not_flat(
    builder: ir.IRBuilder, tests: list[ir.Value], values: list[ir.Value]
) -> ir.Value:
    """Return values, and 0 where ReLU of what is tested is flat: not where that is NaN."""
    zero = ir.Constant(values[0].type, None)
    flat = [builder.fcmp_ordered("<=", test, zero) for test in tests]
    result = [builder.select(no, zero, value) for no, value in zip(flat, values, strict=True)]
    return cgutils.pack_array(builder, result)


def _repeated(builder: ir.IRBuilder, number: ir.Value, vector: ir.VectorType) -> ir.Value:
    nothing = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(nothing, number, _INDEX(0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(_INDEX, VECTOR), None))


def _total(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    """Return the sum of a vector's numbers, in halves."""
    width = VECTOR
    while width > 1:
        width //= 2
        order = ir.Constant(
            ir.VectorType(_INDEX, VECTOR), [(k + width) % VECTOR for k in range(VECTOR)]
        )
        upper = builder.shuffle_vector(vector, vector, order)
        vector = builder.fadd(vector, upper)
    return builder.extract_element(vector, _INDEX(0))


def _times(builder: ir.IRBuilder, step: ir.Value, count: int) -> ir.Value:
    return builder.mul(step, step.type(count))


def _fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """Return a * b + c, rounded once."""
    bits = 32 if isinstance(a.type.element, ir.FloatType) else 64
    function: Callable = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(a.type, [a.type] * 3), f"llvm.fma.v{VECTOR}f{bits}"
    )
    return builder.call(function, [a, b, c])
