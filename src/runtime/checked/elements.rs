//! Sizes of elements.

/// Bits of one element, by ONNX's number of the type; none for texts and unknown types.
pub(super) fn bits(data_type: i32) -> Option<u64> {
    Some(match data_type {
        25 | 26 => 2,                  // uint2, int2
        21..=23 => 4,                  // uint4, int4, float4e2m1
        2 | 3 | 9 | 17..=20 | 24 => 8, // uint8, int8, bool, the float8 types
        4 | 5 | 10 | 16 => 16,         // uint16, int16, float16, bfloat16
        1 | 6 | 12 => 32,              // float, int32, uint32
        7 | 11 | 13 | 14 => 64,        // int64, double, uint64, complex64
        15 => 128,                     // complex128
        _ => return None,
    })
}

/// Bytes of a tensor with these axes; none for texts, and where no tensor can have them.
pub(super) fn bytes_of(dims: &[i64], data_type: i32) -> Option<u64> {
    let elements = dims.iter().try_fold(1u64, |n, &length| n.checked_mul(u64::try_from(length).ok()?))?;
    Some(elements.checked_mul(bits(data_type)?)?.div_ceil(8))
}
