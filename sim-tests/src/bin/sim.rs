//! `cargo sim`: runs simulated clusters.
//!
//! One seed is one process; with several seeds this program starts itself once for each.

fn main() -> std::process::ExitCode {
    #[cfg(madsim)]
    return holdfast_sim_tests::cli::main();
    #[cfg(not(madsim))]
    {
        eprintln!("The simulator is built in a mode of its own. Run it as: cargo sim --help");
        std::process::ExitCode::from(2)
    }
}
