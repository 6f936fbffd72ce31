//! Which instruction set the kernels use on this processor, found once.

use std::sync::OnceLock;

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the compiler's target guarantees (SSE2 on x86-64, NEON on aarch64).
    Portable,
    /// The instructions of AVX2 with FMA.
    Avx2,
    /// The instructions of AVX-512 F, VL and DQ.
    Avx512,
}

impl Level {
    /// Returns the best level of this processor; `S2S_KERNELS=portable|avx2|avx512` asks for a lower one.
    pub fn detect() -> Self {
        static LEVEL: OnceLock<Level> = OnceLock::new();
        *LEVEL.get_or_init(|| {
            let best = Self::best();
            let asked = match std::env::var("S2S_KERNELS").as_deref() {
                Ok("portable") => Self::Portable,
                Ok("avx2") => Self::Avx2,
                _ => Self::Avx512,
            };
            best.min(asked)
        })
    }

    /// Lists every level that this processor can run, for tests.
    pub fn supported() -> impl Iterator<Item = Self> {
        let best = Self::best();
        [Self::Portable, Self::Avx2, Self::Avx512].into_iter().filter(move |l| *l <= best)
    }

    fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
            {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// Returns the name that `s2s doctor` shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

/// Whether every processor of the compiler's target multiplies and adds in one instruction.
pub(crate) const HAS_FMA: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

/// Compiles the body of a safe function for every [`Level`] and calls the one that was found.
///
/// `multiversion! { pub fn name<R: Real>(arguments...) { body } }`: the body must be element-wise loops over
/// slices that the compiler can vectorise; a return type is allowed, and a function of f32 alone leaves
/// `<R: Real>` out. Within it `FMA` says whether to multiply and add in one instruction.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident$(<$R:ident: Real>)?($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?
        $body:block) => {
        $(#[$meta])*
        $vis fn $name$(<$R: Real>)?($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body<$($R: Real,)? const FMA: bool>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
                fn avx512$(<$R: Real>)?($($arg: $ty),*) $(-> $ret)? { body::<$($R,)? true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2$(<$R: Real>)?($($arg: $ty),*) $(-> $ret)? { body::<$($R,)? true>($($arg),*) }
                match $crate::Level::detect() {
                    // SAFETY: the level was found on this processor, so the instructions exist.
                    $crate::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::Level::Portable => {}
                }
            }
            body::<$($R,)? { $crate::level::HAS_FMA }>($($arg),*)
        }
    };
}
pub(crate) use multiversion;
