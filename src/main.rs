//! The stheno binary: parse, dispatch.

fn main() -> std::process::ExitCode {
    stheno::cli::main()
}
