// The runner, when its own output is a terminal, asks its files for colours. What the processes that tests start print is
// compared as a pipe gets it.
delete process.env['FORCE_COLOR']
