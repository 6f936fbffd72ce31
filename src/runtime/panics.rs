//! Panics as errors: what one said, and those of the libraries underneath, which are not printed.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Guarded calls that this thread is in.
    static GUARDED: Cell<usize> = const { Cell::new(0) };
}

/// Runs `call`; a panic becomes its message, and nothing is printed for it. Other threads' panics are
/// reported as before.
///
/// The caller sees to it that what `call` touches is dropped or as good as new after a panic.
///
/// # Errors
/// The message of the panic.
pub fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
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
    result.map_err(|panic| message(&*panic).to_owned())
}

/// What a panic said.
pub fn message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (_, Some(message)) => message,
        _ => "without a message",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs this test alone, in a process of its own, whose output shows what the hook prints.
    #[test]
    fn a_caught_panic_becomes_its_message_and_is_not_printed() {
        const INSIDE: &str = "S2S_TEST_CAUGHT";
        if std::env::var_os(INSIDE).is_some() {
            assert_eq!(caught(|| panic!("inside {}", 1)), Err::<(), _>("inside 1".to_owned()));
            assert_eq!(caught(|| 2), Ok(2));
            // Others' panics are told of as before.
            assert!(std::thread::spawn(|| panic!("outside")).join().is_err());
            return;
        }
        let mut test = std::process::Command::new(std::env::current_exe().unwrap_or_default());
        test.args([
            "--exact",
            "--nocapture",
            "panics::tests::a_caught_panic_becomes_its_message_and_is_not_printed",
        ]);
        let Ok(output) = test.env(INSIDE, "1").output() else {
            unreachable!("the test itself can be started")
        };
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        assert!(said.contains("outside") && !said.contains("inside"), "{said}");
    }
}
