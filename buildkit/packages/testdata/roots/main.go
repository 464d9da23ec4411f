// Command roots compares the CA certificates that Go finds on a system with those of the
// file that is its argument.
package main

import (
	"crypto/x509"
	"fmt"
	"os"
)

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	want := x509.NewCertPool()
	want.AppendCertsFromPEM(text)
	got, err := x509.SystemCertPool()
	if err != nil || !got.Equal(want) {
		fmt.Println("the system's CA certificates are not those of", os.Args[1], err)
		os.Exit(1)
	}
}
