// Package sign signs EFI programs with Authenticode, as UEFI Secure Boot checks it,
// and keeps the keys that it does so with.
//
// A signature says nothing but who signed which bytes: no time, nothing random
// (RSA PKCS #1 v1.5 with SHA-256), so signing twice gives the same bytes.
//
// The keys of ForMode are for development and tests: they lie unencrypted under the
// user's cache directory and no firmware trusts them until their certificate is enrolled.
// Each mode of images has its own, so the key of production images signs nothing else. Production keys come in through Load or by filling Keys with any
// crypto.Signer.
package sign
