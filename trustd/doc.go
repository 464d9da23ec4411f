// Command trustd owns the machine's keys and certificates: the OS CA, which
// signs the certificate of the API port and those of its clients, and the
// pairing code by which the first owner takes an unclaimed machine.
//
// It never lets the CA's key leave, never sees a client's or routerd's key (they
// send CSRs, of which only the key is believed), opens no network socket and
// holds no capability. routerd calls it for its own certificate and on behalf
// of clients, consoled asks what to show. It calls networkd and PID 1 for the
// names that a serving certificate must carry.
//
// # What survives
//
// All of its state is in /state/trustd; what is not there does not matter.
//
//	authority.pem   certificate and key of the OS CA, made on first boot, never written again
//	secret          the secret half of the pairing code
//	claim.der       the owner's first certificate; that it exists is what "claimed" means
//	issued/*.der    certificates issued to others and not yet expired, by serial
//
// Every file appears or changes by one rename of a synced copy, so a power cut
// leaves the old state or the new one. Certificate and key are one file for the
// same reason. A damaged file is never made anew, since that would give
// the machine a second identity behind its owner's back: trustd gives up
// instead. Nothing but the CA is kept in memory: while a new trustd takes over
// from an old one, both answer, and a claim accepted by one is seen by the other.
//
// # Claiming
//
// A machine is unclaimed until somebody proves to have read its pairing code.
// The code stays the same over reboots: it may have been noted when the machine
// was flashed, or read just before the power cut that made its reader come. It
// changes after ten wrong proofs in a row, though at most once a minute: a stranger
// on the network shall neither wear out the flash nor change the code faster
// than it can be typed. (Guessing 60 bits by asking is hopeless at any rate.)
// Nothing of a claim but its length is looked at before its proof is found right.
//
// The certificate that a claim is answered with and the mark that the machine
// is claimed are one file, written before the answer. So a power cut leaves the
// machine unclaimed, or claimed by a key that exists: whoever lost the answer
// asks again with the same key and the same code and gets the same certificate.
// Anybody else is refused: FAILED_PRECONDITION. An owner who loses key and
// certificate has to wipe STATE; there is no second way in.
//
// # Time
//
// A machine without a battery starts with a clock that is behind, sometimes by
// years; one with a broken clock may be ahead until the network corrects it. So
// certificates begin at a fixed date before the first Dactyl was built, the CA
// has no end (its end is a rotation), and a claimer tells its own clock: the
// first year is counted from the later of both.
package main
