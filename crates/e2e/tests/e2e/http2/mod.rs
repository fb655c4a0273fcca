//! HTTP/2 in: heads that HTTP/1.1 cannot carry, and floods.

mod heads;
mod bodies;
mod floods;
mod exchanges;
