// Command etcdd keeps the database of Kubernetes: etcd's server, with its own uid, its
// data on EPHEMERAL, and nobody but kube-apiserver for a client.
//
// # What it is made of
//
// The packages of go.etcd.io/etcd/server that the etcd command is made of, without
// what the command puts around them (package embed): the web server and the gateway for
// JSON, tracing, profiling, discovery, and the listener for peers. So it answers on
// one socket, 127.0.0.1:2379, which PID 1 has bound, and opens none itself. It is a
// fifth smaller than with them, and faster than etcd's own command, which has its
// web server serve gRPC.
//
// What differs from etcd's defaults stands in database.go, each with its reason.
//
// # Whom it believes
//
// TLS 1.3, and clients whose certificate etcd's own CA has signed. That CA's key is
// trustd's; etcdd reads its certificate, its key and the CA's certificate from
// /run/from/trustd/etcdd and looks at them whenever a client connects, so that a
// renewal needs no restart and disturbs no connection. Without them it waits half
// a minute, says so, and ends to be started again.
//
// # A machine that is left alone for years
//
// kube-apiserver compacts the database every five minutes; should it not, what is older
// than an hour goes. The log is at most 48 MB. The file may grow to 2 GiB or an
// eighth of the disk, whichever is less. It is defragmented when more than half of it is
// free, at most once a day and only if there is room for it.
//
// A full database: etcd refuses writes, and so kube-apiserver refuses what needs space and
// still deletes. etcdd compacts and defragments, and takes writes again by itself.
//
// A full disk: when others leave less than 32 MiB of it, writes are refused before
// etcd stumbles, and a reserve of up to 64 MiB is given up, with which the database can
// still be opened, read, and deleted from. When there is room again, the reserve is
// taken again, and so are writes. Should etcd stumble all the same, it ends without an
// acknowledged write lost, and is started again.
//
// # Recovery
//
// After a power cut etcd itself repairs the torn end of its log. Nothing that was
// acknowledged is lost, on a disk that keeps what it says it has kept.
//
// Cheap disks do not. If etcd dies before it has served for five minutes, the next start
// reads all files for damage (repair.go); so does any start that finds the log to end
// before what the database has of it, which etcd takes for a torn end and is not. What it finds decides, never how often it has
// died: a power supply that fails ten times in a row, or a full disk, must not cost a
// database. Then, with the damaged files kept in the folder broken, of which there is one:
//
//   - a damaged log, a sound database: a new log is made. The last tenth of a second
//     before the power cut is lost.
//   - a damaged database: the copy that is made every day takes its place. This machine's
//     database has no other replica, and nobody may be near: yesterday's cluster that runs
//     is of more use than a machine that waits for somebody to decide the same.
//   - no copy yet (it is made ten minutes after the first start): it ends with a
//     sentence and is not started again. It never deletes a database.
//
// GetStatus tells from then on what was replaced by what. Revisions go on 10⁹ higher, so
// that no watch takes an old state for a new one.
//
// # What it never does
//
// It opens no connection, reads no CA's key and stores nothing but etcd's data. It
// does not encrypt: Secrets arrive encrypted by kube-apiserver, but whoever has the disk
// or a snapshot has everything else in plain.
//
// # Who calls it, what survives a restart
//
// kubed asks GetStatus until it serves; the outside, through the gateway, GetStatus and
// Snapshot. kube-apiserver's connection breaks and waits in the socket's backlog until
// the next process accepts it: two processes cannot have the database open (daemon.toml:
// alone).
//
// # Measured
//
// On two processors, with 1500 keys of 2.5 KB and 10 writes a second: 10 MB of memory
// of its own, 25 to 35 MB with the program and the database's pages; 2 % of one processor. With
// GOGC=100 it is 13 MB and a seventh less processor time under load; kit's 50 stays.
package main
