#!/usr/bin/env python3
"""Writes golden.gguf with the writer of the gguf package (0.19.0), every type of
value and some types of tensors in it.

    python make_golden.py
"""

import os

import gguf
import numpy as np

w = gguf.GGUFWriter(os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden.gguf"), "llama")
w.add_uint8("u8", 200)
w.add_int8("i8", -100)
w.add_uint16("u16", 60000)
w.add_int16("i16", -30000)
w.add_uint32("u32", 4294967295)
w.add_int32("i32", -2147483648)
w.add_uint64("u64", 2**63)
w.add_int64("i64", -(2**63))
w.add_float32("f32", 1.5)
w.add_float64("f64", 0.1)
w.add_bool("yes", True)
w.add_bool("no", False)
w.add_string("string", "ä\n")
w.add_array("strings", ["a", "", "🐉"])
w.add_array("ints", [1, -2, 3])
w.add_array("floats", [0.5, -0.25])
w.add_array("bools", [True, False, True])
w.add_array("nested", [[1, 2], [3]])
w.add_custom_alignment(64)

x = np.arange(64, dtype=np.float32).reshape(2, 32)
w.add_tensor("f32", x)
w.add_tensor("f16", x[:, :3].astype(np.float16))
w.add_tensor("i32", np.array([-1, 7], np.int32))
w.add_tensor("q8_0", gguf.quants.quantize(x, gguf.GGMLQuantizationType.Q8_0), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
w.add_tensor("bf16", gguf.quants.quantize(x, gguf.GGMLQuantizationType.BF16), raw_dtype=gguf.GGMLQuantizationType.BF16)
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
