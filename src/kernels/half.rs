//! Numbers of IEEE 754's binary16, as weights are stored.

/// Rounds to the nearest binary16, ties to even; what is too large becomes the largest finite one, because a weight is
/// finite.
pub fn half_from_float(x: f32) -> u16 {
    const LARGEST: u16 = 0x7bff;
    let bits = x.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = f32::from_bits(bits & 0x7fff_ffff);
    if magnitude >= 65520.0 {
        return sign | LARGEST;
    }
    // Adding this makes the f32 round at the last bit of the binary16: of its own exponent, or of the
    // smallest normal one.
    let exponent = ((bits >> 23) & 0xff).max(127 - 14);
    let rounder = f32::from_bits((exponent + 13) << 23);
    let rounded = (magnitude + rounder) - rounder;
    let bits = rounded.to_bits();
    if rounded < 6.103_515_6e-5 {
        // Subnormal: units of 2^-24.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 1024")]
        return sign | (rounded * 16_777_216.0) as u16;
    }
    sign | ((bits - (112 << 23)) >> 13) as u16
}

/// Widens a binary16.
pub fn float_from_half(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let (exponent, fraction) = (u32::from(half >> 10) & 31, u32::from(half & 0x3ff));
    match exponent {
        0 => f32::from_bits((fraction as f32 / 16_777_216.0).to_bits() | sign),
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}
