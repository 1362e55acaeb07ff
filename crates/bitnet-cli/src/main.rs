//! The `bitnet` command.
#![forbid(unsafe_code)]
fn main() {
    println!("nothing to run yet");
}
