//! Options, logger, bind, run.

fn main() {}
