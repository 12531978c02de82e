//! The outside world as traits: clock, randomness, tasks, disk and sockets, each with a real and a simulated side.
