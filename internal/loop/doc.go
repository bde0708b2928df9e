// Package loop runs the share-nothing event loops under everything that Windrose does on TCP: one loop per core, each
// with its own connections, timers, buffers and mailboxes. It knows bytes and connections, no protocol.
//
// A Group has the loops. A listener (Group.Listen) hands each new connection to the least loaded loop, where it stays
// for its life; the PROXY protocol and TLS are done before its Handler exists, so a Handler sees plaintext only. Output
// is appended to Conn.Out and written once per turn. An idle connection holds no buffer and no goroutine.
//
// On Linux a loop is an epoll loop that blocks in a raw system call while there is traffic (the Go scheduler is not
// involved) and the ordinary way after 20 ms of silence. Other systems, and the build tag "portable", get the same API
// with goroutines per connection that feed the loop's goroutine. The build tag "loopdebug" times the work of each turn.
//
// With Options.Gather one thread runs the turns of all loops while little happens; each takes its own back under load (ADR 9).
//
// A turn: wait; what is readable or writable; posted functions; timers; the OnTurn functions; Closed of what was
// closed; one write per connection that has output.
//
// # Concurrency
//
// Everything that belongs to a loop (connections, timers, handlers, buffers) is touched on that loop only, by one goroutine
// at a time (another one after a handover, not another loop), so it needs no locks. From other goroutines only Loop.Post, Loop.Wake, the producer's end of a Mailbox, Group and Listener may be
// used. Code on a loop never blocks: no channel, lock held by others, file, DNS; it goes to a goroutine that comes back
// by Post or a Mailbox. After the group has stopped, posted functions are dropped.
package loop
