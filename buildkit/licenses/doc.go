// Package licenses knows under which licences an image may be given away: those
// of every Go module that is linked into one of its programs, whether ours or of
// buildkit/packages, of Go itself, of the kernel, of the boot loader and of what is
// taken from Debian.
//
// What is linked is asked of the go command, with the tags of the image. Licences
// are recognised by their full text, not by what somebody says about a module; a
// text that is not recognised, or that would reach over to Dactyl's own programs,
// is an error. The few modules that a person had to read are in judged.
//
//	docs/licenses.md                     names, versions and licences, for people (make licenses)
//	/usr/share/licenses/licenses.txt     the same in the image, with all texts, equal ones once
package licenses
