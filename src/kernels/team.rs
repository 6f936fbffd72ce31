//! Threads that share the pieces of work of an optimiser step.
//!
//! A step has four of them, each of a few milliseconds, with a wait for the slowest thread after each. A
//! thread that sleeps meanwhile is woken late: a virtual machine that has given its idle processor away gets
//! it back after milliseconds. So the threads of a team stay, and look for the next piece for a while before
//! they sleep.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::subnormals::FlushSubnormals;

/// The calling thread and its helpers; subnormals count as zero in all that they do for a team.
#[derive(Debug)]
pub struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Pieces of work so far.
    pieces: AtomicUsize,
    /// Helpers that have not finished the current piece.
    pending: AtomicUsize,
    state: Mutex<State>,
    begun: Condvar,
    finished: Condvar,
}

#[derive(Debug, Default)]
struct State {
    work: Option<Work>,
    panic: Option<Box<dyn Any + Send>>,
    ended: bool,
}

/// A closure on the stack of [`Team::all`].
#[derive(Clone, Copy)]
struct Work(*const (dyn Fn() + Sync));

// SAFETY: the closure is Sync, and `Team::all` does not return while a helper may still call it.
unsafe impl Send for Work {}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Work")
    }
}

/// How long a thread looks before it sleeps; what passes between two pieces of a step is shorter.
const PATIENCE: Duration = Duration::from_millis(10);

impl Team {
    /// A team of so many threads, the calling one counted; fewer where the system gives no more.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let helper = |_| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("s2s-team".to_owned()).spawn(move || shared.help()).ok()
        };
        let helpers = (1..threads).map_while(helper).collect();
        Self { shared, helpers }
    }

    /// Counts the threads, the calling one with them.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `work` for every item, each on the next free thread; returns when all are done.
    ///
    /// A panic of `work` is passed on.
    pub fn each<T: Send>(&mut self, items: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
        // As many states as anyone likes, of no size.
        self.each_with(&mut Vec::<()>::new(), items, |(), item| work(item));
    }

    /// [`each`](Self::each) with a state for every thread, made where there are too few.
    pub fn each_with<S: Default + Send, T: Send>(
        &mut self,
        states: &mut Vec<S>,
        items: impl Iterator<Item = T> + Send,
        work: impl Fn(&mut S, T) + Sync,
    ) {
        states.resize_with(states.len().max(self.threads()), S::default);
        let items = Mutex::new(items);
        let states = Mutex::new(states.iter_mut());
        let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
        self.all(&|| {
            let state = states.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(state) = state else { unreachable!("a state for every thread") };
            while let Some(item) = next() {
                work(state, item);
            }
        });
    }

    /// Calls `work` once on every thread.
    fn all(&mut self, work: &(dyn Fn() + Sync)) {
        let _flush = FlushSubnormals::new();
        if self.helpers.is_empty() {
            return work();
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; the pointer is taken back below, after the last helper has
        // finished.
        let work_of_any_lifetime: *const (dyn Fn() + Sync) =
            unsafe { std::mem::transmute::<&(dyn Fn() + Sync), _>(work) };
        {
            let mut state = shared.state();
            state.work = Some(Work(work_of_any_lifetime));
            shared.pending.store(self.helpers.len(), Ordering::Relaxed);
            shared.pieces.fetch_add(1, Ordering::Release);
        }
        shared.begun.notify_all();
        let own = catch_unwind(AssertUnwindSafe(work));
        let is_finished = || shared.pending.load(Ordering::Acquire) == 0;
        if !look_for(is_finished) {
            let mut state = shared.state();
            while !is_finished() {
                state = shared.finished.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        let mut state = shared.state();
        state.work = None;
        let panic = state.panic.take();
        drop(state);
        if let Some(panic) = own.err().or(panic) {
            resume_unwind(panic);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a helper does until the team ends.
    fn help(&self) {
        let _flush = FlushSubnormals::new();
        let mut done = 0;
        loop {
            let has_begun = || self.pieces.load(Ordering::Acquire) != done;
            look_for(has_begun);
            let mut state = self.state();
            while !has_begun() {
                state = self.begun.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            done = self.pieces.load(Ordering::Acquire);
            let (work, ended) = (state.work, state.ended);
            drop(state);
            if ended {
                return;
            }
            if let Some(Work(work)) = work {
                // SAFETY: `Team::all` keeps the closure until this helper is no longer pending.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| unsafe { (*work)() })) {
                    self.state().panic = Some(panic);
                }
            }
            if self.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
                // With the lock, so that a thread about to sleep has either seen this or is told.
                let _state = self.state();
                self.finished.notify_one();
            }
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state();
            state.ended = true;
            self.shared.pieces.fetch_add(1, Ordering::Release);
        }
        self.shared.begun.notify_all();
        for helper in self.helpers.drain(..) {
            // Panics were passed on when they happened.
            let _ = helper.join();
        }
    }
}

/// Looks until `is_there`, lending the processor to whoever else wants it; gives up after [`PATIENCE`].
fn look_for(is_there: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        for _ in 0..200 {
            if is_there() {
                return true;
            }
            std::hint::spin_loop();
        }
        if begin.elapsed() > PATIENCE {
            return false;
        }
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once() {
        for threads in [0, 1, 2, 5] {
            let mut team = Team::new(threads);
            for items in [0, 1, 3, 100] {
                let mut counts = vec![0; items];
                team.each(counts.iter_mut(), |count| *count += 1);
                assert!(counts.iter().all(|&count| count == 1));
                if items == 3 {
                    // Longer than the patience: the helpers sleep, and are woken.
                    std::thread::sleep(2 * PATIENCE);
                }
            }
        }
    }

    #[test]
    fn a_caller_that_waits_for_long_is_woken() {
        let mut team = Team::new(3);
        let done = AtomicUsize::new(0);
        team.each(0..3, |i| {
            std::thread::sleep(3 * PATIENCE * i);
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 3);
    }

    #[test]
    fn a_panic_is_passed_on_and_the_team_goes_on() {
        let mut team = Team::new(2);
        let panic = catch_unwind(AssertUnwindSafe(|| team.each(0..10, |i| assert_ne!(i, 7, "seven"))));
        assert!(panic.is_err());
        let sum = AtomicUsize::new(0);
        team.each(0..10, |i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 45);
    }
}
