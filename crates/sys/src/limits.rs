//! What the process asks for as a whole: descriptors, and the size of its pages. What the connections may use is for the caller to reckon.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open descriptors to the hard one and returns both, as they stand afterwards: (soft, hard).
///
/// No limit reads `u64::MAX`. Processes started later inherit the raised limit. Where it stands already, nothing is done.
///
/// # Errors
/// When the system refuses, which it has no reason to: no privilege is needed up to the hard limit.
pub fn raise_nofile() -> io::Result<(u64, u64)> {
    let before = getrlimit(Resource::Nofile);
    if before.current != before.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum })?;
    }
    let after = getrlimit(Resource::Nofile);
    Ok((after.current.unwrap_or(u64::MAX), after.maximum.unwrap_or(u64::MAX)))
}

/// Keeps the memory of this process, which holds keys, passwords and tokens, out of the file that the system may write when it crashes:
/// lowers the soft limit of such files to 0. The hard one stays, so that whoever looks for an error can allow one (`prlimit --core`).
/// Programs that are given the memory through a pipe are told the limit, and those of the distributions go by it. Processes started later
/// inherit it.
///
/// # Errors
/// When the system refuses, which it has no reason to: no privilege is needed.
pub fn write_no_core() -> io::Result<()> {
    let before = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: before.maximum })?;
    Ok(())
}

/// Says whether huge pages may stand in place of small ones, from here on, for all threads. The first byte used of one takes 2 MiB of memory,
/// and the allocator's heaps of a few threads take several; but what lies scattered over many megabytes is found faster in them. A kernel that
/// knows of none is left as it is.
pub fn allow_huge_pages(allow: bool) {
    // refused only by kernels that have no huge pages to begin with
    let _ = rustix::thread::disable_transparent_huge_pages(!allow);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let before = getrlimit(Resource::Nofile);
        let Some(hard) = before.maximum else { return };
        setrlimit(Resource::Nofile, Rlimit { current: Some(hard - 1), maximum: Some(hard) }).unwrap();
        assert_eq!(raise_nofile().unwrap(), (hard, hard));
        assert_eq!(getrlimit(Resource::Nofile).current, Some(hard));
        assert_eq!(raise_nofile().unwrap(), (hard, hard));
    }

    #[test]
    fn no_core_is_written_until_somebody_allows_it() {
        let hard = getrlimit(Resource::Core).maximum;
        setrlimit(Resource::Core, Rlimit { current: hard, maximum: hard }).unwrap();
        write_no_core().unwrap();
        assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: hard });
    }

    #[test]
    fn huge_pages_are_off_and_on_as_was_said() {
        for allow in [false, true] {
            allow_huge_pages(allow);
            assert_eq!(rustix::thread::transparent_huge_pages_are_disabled().unwrap(), !allow);
        }
    }
}
