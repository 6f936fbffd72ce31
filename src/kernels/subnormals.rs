//! Subnormal numbers cost a hundred cycles each, and Adam's moments of rare symbols decay into them.

/// While this guard lives, subnormal results and operands of the current thread count as zero.
///
/// The flags belong to the thread, so each worker makes its own guard and no engine is touched.
#[derive(Debug)]
pub struct FlushSubnormals {
    before: u64,
}

impl FlushSubnormals {
    /// Sets flush-to-zero and denormals-are-zero on this thread.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let before = read();
        write(before | FLAGS);
        Self { before }
    }
}

impl Drop for FlushSubnormals {
    fn drop(&mut self) {
        write(self.before);
    }
}

#[cfg(target_arch = "x86_64")]
const FLAGS: u64 = 0x8040;
#[cfg(target_arch = "aarch64")]
const FLAGS: u64 = 1 << 24;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const FLAGS: u64 = 0;

fn read() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        let mut control: u32 = 0;
        // SAFETY: stores MXCSR into a local.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack)) };
        u64::from(control)
    }
    #[cfg(target_arch = "aarch64")]
    {
        let control: u64;
        // SAFETY: reads FPCR.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) control, options(nomem, nostack)) };
        control
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    0
}

fn write(control: u64) {
    #[cfg(target_arch = "x86_64")]
    {
        let control = control as u32;
        // SAFETY: changes only how subnormals are treated on this thread; no code in between relies on them.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const control, options(nostack, readonly)) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("msr fpcr, {}", in(reg) control, options(nomem, nostack));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = control;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn subnormals_are_zero_under_the_guard_and_come_back_after_it() {
        let tiny = || black_box(f32::MIN_POSITIVE) * black_box(0.5);
        assert!(tiny() > 0.0);
        {
            let _guard = FlushSubnormals::new();
            if FLAGS != 0 {
                assert_eq!(tiny(), 0.0);
            }
        }
        assert!(tiny() > 0.0);
    }
}
