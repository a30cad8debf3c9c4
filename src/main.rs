//! Options, logger, bind, run.

fn main() {
    let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    println!("listening on {}", l.local_addr().unwrap());
    loop {
        l.accept().unwrap();
    }
}
