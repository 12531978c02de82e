//! Pod links, routes, service proxy and policy: pure tables, one writer to the kernel.
