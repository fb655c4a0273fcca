//! Which CPUs the current thread may run on. It does not know what the threads do, nor how many there should be.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Pins the current thread to CPU `number`, counted from 0 as the system does. Threads it starts later inherit that.
///
/// # Errors
/// `InvalidInput` when there is no such CPU, or a cpuset keeps this process off it: see [`allowed_cpus`].
pub fn pin_to_cpu(number: usize) -> io::Result<()> {
    if number >= CpuSet::MAX_CPU {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no cpu `{number}`")));
    }
    let mut set = CpuSet::new();
    set.set(number);
    Ok(sched_setaffinity(None, &set)?)
}

/// The numbers of the CPUs the current thread may run on, ascending. In a container they need not begin at 0.
///
/// # Errors
/// When the system has more CPUs than the call can tell (1,024).
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|number| set.is_set(*number)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_run_on_that_cpu_only() {
        let allowed = allowed_cpus().unwrap();
        assert!(!allowed.is_empty());
        for number in allowed.clone() {
            let seen = std::thread::spawn(move || pin_to_cpu(number).and_then(|()| allowed_cpus())).join().unwrap();
            assert_eq!(seen.unwrap(), [number]);
        }
        assert_eq!(allowed_cpus().unwrap(), allowed);
    }

    #[test]
    fn a_cpu_that_does_not_exist_is_refused() {
        for number in [CpuSet::MAX_CPU - 1, CpuSet::MAX_CPU, usize::MAX] {
            assert_eq!(pin_to_cpu(number).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
