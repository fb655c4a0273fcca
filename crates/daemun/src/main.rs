//! The `daemun` program: the allocator, and the way into the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    daemun_sys::use_small_pages();
    daemun::main()
}
