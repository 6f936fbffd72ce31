//! Panics of the libraries underneath, as errors: caught, and not printed by the default hook.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Guarded calls that this thread is in.
    static GUARDED: Cell<usize> = const { Cell::new(0) };
}

/// Runs `call`; a panic becomes its message, and nothing is printed for it. Other threads' panics are reported as before.
///
/// The caller sees to it that what `call` touches is dropped or as good as new after a panic.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let printed = take_hook();
        set_hook(Box::new(move |panic| {
            if GUARDED.with(Cell::get) == 0 {
                printed(panic);
            }
        }));
    });
    GUARDED.with(|depth| depth.set(depth.get() + 1));
    let result = catch_unwind(AssertUnwindSafe(call));
    GUARDED.with(|depth| depth.set(depth.get() - 1));
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        text.unwrap_or_else(|| "panic".to_owned())
    })
}
