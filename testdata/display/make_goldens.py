"""Writes arrays.npz and texts.json: arrays and what NumPy prints of them.

A text is `str(array)`, or `numpy.array2string(array, precision=...)` where the name ends in `@` and a number.
Run with numpy 2.4.6 from the folder of this file.
"""

import json

import numpy as np

rng = np.random.default_rng(20261127)
f32, f16 = np.float32, np.float16
nan, inf = np.nan, np.inf
arrays = {}


def put(name, values, dtype=f32):
    arrays[name] = np.array(values, dtype)


put("scalar_one", 1.0)
put("scalar_tenth", 0.1)
put("scalar_small", 1e-5)
put("scalar_large", 1.5e16)
put("scalar_ten_digits", 1e10)
put("scalar_below_the_limit", 999999)
put("scalar_at_the_limit", 1e6)
put("scalar_at_the_small_limit", 1e-4)
put("scalar_half_at_the_small_limit", 1e-4, f16)
put("scalar_nan", nan)
put("scalar_minus_inf", -inf)
put("scalar_minus_zero", -0.0)
put("scalar_half", 65504, f16)
put("scalar_half_tenth", 0.1, f16)
put("scalar_int", -7, np.int64)
put("scalar_bool", True, bool)
put("scalar_precision@3", 3.14159)
put("vector", [1, 2, 3])
put("fractions", [1, 2.5, -3.25])
put("thirds", [1 / 3, 2 / 3, 10 / 3])
put("tenths", np.arange(10) / 10)
put("eight_digits", [0.12345678, 12.345678, 123.45678])
put("at_the_limit", [999999, 1])
put("at_the_ratio", [1000, 1])
put("above_the_ratio", [1000.1, 1])
put("large", [1e6, 2e6, 3.5e6])
put("small", [1e-4, 2e-4])
put("smaller", [9.9e-5, 2e-4])
put("wide_range", [1e-30, 1, 1e30])
put("denormal", [1e-45, 1e-40])
put("extremes", [np.finfo(f32).max, np.finfo(f32).tiny, 0])
put("nine_digits", [16777217.5 * 1.1, 0.1, 1 / 3, 1.1754945e-38])
put("nan", [nan, 1, 2.5])
put("only_nan", [nan, nan])
put("infinities", [inf, -inf, nan, 1])
put("only_minus_inf", [-inf, inf])
put("nan_and_exponents", [nan, 1e-10, -inf])
put("zeros", np.zeros((2, 3)))
put("minus_zero", [-0.0, 0.0])
put("matrix", np.arange(12).reshape(3, 4) / 7)
put("cube", np.arange(24).reshape(2, 3, 4))
put("four_dims", np.arange(16).reshape(2, 2, 2, 2))
put("column", [[1], [20], [300]])
put("long_line", rng.standard_normal(40))
put("long_rows", rng.standard_normal((2, 30)))
put("long_rows_of_ints", rng.integers(-1000, 1000, (2, 2, 40)), np.int32)
put("exactly_a_line", np.arange(100, 125), np.int32)
put("thousand", np.arange(1000), np.int32)
put("thousand_and_one", np.arange(1001), np.int32)
put("summary_floats", np.arange(2000) / 3)
put("summary_matrix", np.arange(1200).reshape(40, 30), np.int32)
put("summary_narrow", np.arange(1200).reshape(300, 4), np.int32)
put("summary_flat", np.arange(1200).reshape(4, 300), np.int32)
put("summary_cube", np.arange(1331).reshape(11, 11, 11), np.int32)
put("summary_six", np.arange(6 * 200).reshape(6, 200), np.int32)
put("empty", [])
put("empty_rows", np.zeros((0, 3)))
put("empty_columns", np.zeros((2, 0)))
put("ints", [[1, -20], [300, 4]], np.int64)
put("int64_extremes", [np.iinfo(np.int64).min, np.iinfo(np.int64).max], np.int64)
put("bytes", [0, 7, 255], np.uint8)
put("signed_bytes", [-128, 127, 0], np.int8)
put("bools", [[True, False], [False, False]], bool)
put("many_bools", rng.integers(0, 2, 30), bool)
put("halves", [0.1, 1 / 3, 100], f16)
put("halves_at_the_limit", [999.5, 1], f16)
put("large_halves", [1000, 65504, 0.25], f16)
put("small_halves", [6e-8, 1e-4, 1], f16)
put("powers_of_two_halves", 2.0 ** np.arange(-24, 16), f16)
put("powers_of_two", 2.0 ** np.arange(-60, 60, 7))
put("powers_of_two_near_one", 2.0 ** np.arange(-5, 5))
put("precision@3", rng.standard_normal((3, 3)))
put("precision_of_exponents@3", rng.standard_normal((3, 3)) * 1e8)
put("precision_zero@0", [0.5, 1.5, 2.5, 3.7])
put("precision_that_rounds_to_zeros@2", [1.0001, 2.0004])
put("precision_of_more@12", [0.1, 1 / 3])
put("ties@1", [0.25, 0.75, 0.35])
put("random_scales", rng.standard_normal(50) * 10.0 ** rng.integers(-20, 20, 50))
put("random_bits", rng.integers(0, 2**32, 60, dtype=np.uint32).view(f32))
put("random_halves", rng.integers(0, 2**16, 60, dtype=np.uint16).view(f16), f16)


def text(name, x):
    _, _, precision = name.partition("@")
    return np.array2string(x, precision=int(precision)) if precision else str(x)


np.savez_compressed("arrays.npz", **arrays)
with open("texts.json", "w") as file:
    json.dump({name: text(name, x) for name, x in arrays.items()}, file, indent=1)
    file.write("\n")
