"""Kernels of a model as TVM modules, and compiling them. Needs apache-tvm; the compiled library is not used."""

import tvm
from tvm import te


def build(functions, target="llvm"):
    """Compiles a dict of name to PrimFunc and returns what is callable by name."""
    named = {name: function.with_attr("global_symbol", name) for name, function in functions.items()}
    return tvm.compile(tvm.IRModule(named), target=target)


def vector_add(length, dtype="float32"):
    """result[i] = a[i] + b[i]"""
    a = te.placeholder((length,), name="a", dtype=dtype)
    b = te.placeholder((length,), name="b", dtype=dtype)
    result = te.compute((length,), lambda i: a[i] + b[i], name="result")
    return te.create_prim_func([a, b, result])


def matmul(rows, columns, inner):
    """result = a @ b in float32"""
    a = te.placeholder((rows, inner), name="a", dtype="float32")
    b = te.placeholder((inner, columns), name="b", dtype="float32")
    k = te.reduce_axis((0, inner), name="k")
    result = te.compute((rows, columns), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="result")
    return te.create_prim_func([a, b, result])


def rms_norm(rows, width, epsilon=1e-5):
    """result[i, :] = x[i, :] / sqrt(mean(x[i, :] ** 2) + epsilon) * weight"""
    x = te.placeholder((rows, width), name="x", dtype="float32")
    weight = te.placeholder((width,), name="weight", dtype="float32")
    k = te.reduce_axis((0, width), name="k")
    squares = te.compute((rows,), lambda i: te.sum(x[i, k] * x[i, k], axis=k), name="squares")
    scale = te.compute((rows,), lambda i: te.rsqrt(squares[i] / float(width) + epsilon), name="scale")
    result = te.compute((rows, width), lambda i, j: x[i, j] * scale[i] * weight[j], name="result")
    return te.create_prim_func([x, weight, result])


def softmax(rows, width):
    """The softmax of each row, shifted by its maximum."""
    x = te.placeholder((rows, width), name="x", dtype="float32")
    k = te.reduce_axis((0, width), name="k")
    m = te.reduce_axis((0, width), name="m")
    peak = te.compute((rows,), lambda i: te.max(x[i, m], axis=m), name="peak")
    shifted = te.compute((rows, width), lambda i, j: te.exp(x[i, j] - peak[i]), name="shifted")
    total = te.compute((rows,), lambda i: te.sum(shifted[i, k], axis=k), name="total")
    result = te.compute((rows, width), lambda i, j: shifted[i, j] / total[i], name="result")
    return te.create_prim_func([x, result])


def dequantize_q4(rows, width, group=32):
    """Weights back from what `quantization.quantize_q4` stored: eight 4-bit values a word, one scale a group."""
    packed = te.placeholder((rows, width // 8), name="packed", dtype="uint32")
    scale = te.placeholder((rows, width // group), name="scale", dtype="float32")

    def value(i, j):
        nibble = (packed[i, j // 8] >> ((j % 8) * 4).astype("uint32")) & tvm.tirx.const(0xF, "uint32")
        return (nibble.astype("float32") - 7.0) * scale[i, j // group]

    result = te.compute((rows, width), value, name="result")
    return te.create_prim_func([packed, scale, result])
