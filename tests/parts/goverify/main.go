// Goverify lets Go's crypto/x509 judge what Signet emits: it is the verifier of every Go service in
// a mesh, and it disagrees with OpenSSL and webpki often enough to be asked on its own.
//
//	goverify -root roots.pem [-server name | -client] [-at time] [-crls set.pem] [-ocsp url] chain.pem
//	goverify -csr request
//	goverify -crl list -issuer ca.pem
//
// It prints one line, "ok" or the error, and exits with 0 or 1; 2 means that it was called wrongly.
package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"
)

type options struct {
	root   string
	server string
	client bool
	at     string
	csr    string
	crl    string
	issuer string
	crls   string
	ocsp   string
}

var errUsage = errors.New("see goverify -h")

func main() {
	var o options
	flag.StringVar(&o.root, "root", "", "PEM `file` with the trusted roots")
	flag.StringVar(&o.server, "server", "", "require serverAuth and this DNS `name` or IP address")
	flag.BoolVar(&o.client, "client", false, "require clientAuth")
	flag.StringVar(&o.at, "at", "", "verify at this `time` (RFC 3339), not now")
	flag.StringVar(&o.csr, "csr", "", "check a certificate request `file` (DER or PEM)")
	flag.StringVar(&o.crl, "crl", "", "check a revocation list `file` (DER or PEM)")
	flag.StringVar(&o.issuer, "issuer", "", "PEM `file` with the issuer of the revocation list")
	flag.StringVar(&o.crls, "crls", "", "PEM `file` with a revocation list of each CA of the chain")
	flag.StringVar(&o.ocsp, "ocsp", "", "ask the responder at this `url` about the leaf")
	flag.Parse()

	err := run(o, flag.Args())
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	case err != nil:
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

func run(o options, args []string) error {
	switch {
	case o.csr != "" && len(args) == 0:
		return checkRequest(o.csr)
	case o.crl != "" && o.issuer != "" && len(args) == 0:
		return checkRevocationList(o.crl, o.issuer)
	case o.root != "" && len(args) == 1 && !(o.client && o.server != ""):
		return checkChain(o, args[0])
	}
	return errUsage
}

// checkChain verifies the first certificate of the file, with the others as intermediates: the way
// a TLS peer reads a handshake.
func checkChain(o options, file string) error {
	chain, err := certificates(file)
	if err != nil {
		return err
	}
	roots, err := certificates(o.root)
	if err != nil {
		return err
	}
	// Go takes an empty list of usages for serverAuth, so "any" has to be said.
	verify := x509.VerifyOptions{
		Roots:         x509.NewCertPool(),
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, root := range roots {
		verify.Roots.AddCert(root)
	}
	for _, intermediate := range chain[1:] {
		verify.Intermediates.AddCert(intermediate)
	}
	if o.server != "" {
		verify.DNSName = o.server
		verify.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	if o.client {
		verify.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if o.at != "" {
		verify.CurrentTime, err = time.Parse(time.RFC3339, o.at)
		if err != nil {
			return fmt.Errorf("%w: -at: %w", errUsage, err)
		}
	}
	paths, err := chain[0].Verify(verify)
	if err != nil {
		return err
	}
	if o.crls != "" {
		if err := checkListed(paths[0], o.crls); err != nil {
			return err
		}
	}
	if o.ocsp != "" {
		return checkStatus(paths[0][0], paths[0][1], o.ocsp)
	}
	return nil
}

func checkRequest(file string) error {
	der, err := derOrPEM(file)
	if err != nil {
		return err
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return err
	}
	return request.CheckSignature()
}

func checkRevocationList(file, issuer string) error {
	der, err := derOrPEM(file)
	if err != nil {
		return err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	issuers, err := certificates(issuer)
	if err != nil {
		return err
	}
	return list.CheckSignatureFrom(issuers[0])
}

// certificates reads every certificate of a PEM file, of which there must be one at least.
func certificates(file string) ([]*x509.Certificate, error) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", file, len(all), err)
		}
		all = append(all, certificate)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no certificate in PEM", file)
	}
	return all, nil
}

func derOrPEM(file string) ([]byte, error) {
	bytes, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(bytes); block != nil {
		return block.Bytes, nil
	}
	return bytes, nil
}
