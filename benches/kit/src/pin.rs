//! Pins threads to cores: unpinned, Linux keeps two threads of a short run on one core for
//! milliseconds, which hides all contention.

#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "std cannot set a thread's affinity")
)]

#[cfg(target_os = "linux")]
pub use self::linux::{cores, to_any_core, to_core};

/// Other systems: threads run where they are put.
#[cfg(not(target_os = "linux"))]
pub fn to_core(_index: usize) {}

#[cfg(not(target_os = "linux"))]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

#[cfg(not(target_os = "linux"))]
pub fn to_any_core() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::LazyLock;

    use libc::{CPU_ISSET, CPU_SET, CPU_SETSIZE, cpu_set_t, sched_getaffinity, sched_setaffinity};

    /// What the process may use as it was started, before anything was pinned.
    static CORES: LazyLock<Vec<usize>> = LazyLock::new(|| {
        let mut set = empty_set();
        // SAFETY: the set lives through the call and has the size given; 0 is the calling thread. A
        // failure leaves the set empty.
        unsafe { sched_getaffinity(0, size_of_val(&set), &mut set) };
        (0..CPU_SETSIZE as usize)
            // SAFETY: `core` is below CPU_SETSIZE, the number of bits in the set.
            .filter(|&core| unsafe { CPU_ISSET(core, &set) })
            .collect()
    });

    /// How many there are. What is said of the first call of `to_core` holds here, too.
    pub fn cores() -> usize {
        CORES.len().max(1)
    }

    /// Pins this thread to one of the process's cores, counted from 0 and wrapping around. The
    /// first call must come from a thread that is not pinned.
    pub fn to_core(index: usize) {
        let core = CORES.get(index % CORES.len().max(1));
        allow(core.as_slice());
    }

    /// Undoes it.
    pub fn to_any_core() {
        allow(&CORES.iter().collect::<Vec<_>>());
    }

    fn allow(cores: &[&usize]) {
        let mut set = empty_set();
        for &&core in cores {
            // SAFETY: the cores are below CPU_SETSIZE, see where they come from.
            unsafe { CPU_SET(core, &mut set) };
        }
        // SAFETY: the set lives through the call and has the size given; 0 is the calling thread. A
        // failure leaves the thread where it was, which costs precision and nothing else.
        unsafe { sched_setaffinity(0, size_of_val(&set), &set) };
    }

    fn empty_set() -> cpu_set_t {
        // SAFETY: `cpu_set_t` is an array of integers, for which all zeroes is a value.
        unsafe { std::mem::zeroed() }
    }
}
