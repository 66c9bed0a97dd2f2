//! Random sequences of steps.

use std::fmt::Debug;

use proptest::{
    collection::vec,
    prelude::{Strategy, any},
    test_runner::{Config, TestRunner},
};

/// Runs a test on so many sequences of less than `end` steps, each with a seed. Of one that fails, it
/// shows the shortest that fails, too, of those it finds in so many tries.
pub(crate) fn check_any_sequence<T: Clone + Debug>(
    cases: u32,
    tries: u32,
    end: usize,
    step: impl Strategy<Value = T>,
    test: impl Fn(&[T], u64),
) {
    let config =
        Config { cases, max_shrink_iters: tries, failure_persistence: None, ..Config::default() };
    let sequences = (vec(step, 1..end), any::<u64>());
    let result = TestRunner::new(config).run(&sequences, |(steps, seed)| {
        test(&steps, seed);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}
