// What the environment of a test run says that the processes which tests start must not hear.

// The runner, when its own output is a terminal, asks its files for colours: what is printed is compared as a pipe gets it.
delete process.env['FORCE_COLOR']
// Of a service manager that runs the tests: `xdp echo` would tell it that it is ready.
delete process.env['NOTIFY_SOCKET']
// Meant for the programs of whoever runs the tests.
delete process.env['NODE_XDP_INTERFACE']
