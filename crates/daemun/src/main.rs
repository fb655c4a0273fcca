//! The `daemun` program: the allocator, and the way into the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // allowed again for a configuration that needs them
    daemun_sys::allow_huge_pages(false);
    daemun::main()
}
