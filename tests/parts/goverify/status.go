package main

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"golang.org/x/crypto/ocsp"
)

// checkListed wants a list in force of each CA of the path, and no certificate of the path on one.
func checkListed(path []*x509.Certificate, file string) error {
	lists, err := revocationLists(file)
	if err != nil {
		return err
	}
	for i, certificate := range path[:len(path)-1] {
		list := listOf(lists, path[i+1])
		if list == nil {
			return fmt.Errorf("no list of %s in force", path[i+1].Subject)
		}
		for _, entry := range list.RevokedCertificateEntries {
			if entry.SerialNumber.Cmp(certificate.SerialNumber) == 0 {
				return fmt.Errorf("certificate %d is revoked, reason %d", i, entry.ReasonCode)
			}
		}
	}
	return nil
}

func listOf(lists []*x509.RevocationList, issuer *x509.Certificate) *x509.RevocationList {
	now := time.Now()
	for _, list := range lists {
		if !bytes.Equal(list.RawIssuer, issuer.RawSubject) || list.CheckSignatureFrom(issuer) != nil {
			continue
		}
		if !now.Before(list.ThisUpdate) && now.Before(list.NextUpdate) {
			return list
		}
	}
	return nil
}

func revocationLists(file string) ([]*x509.RevocationList, error) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []*x509.RevocationList
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return all, nil
		}
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: list %d: %w", file, len(all), err)
		}
		all = append(all, list)
	}
}

// checkStatus asks with each hash that a responder has to know, as golang.org/x/crypto does.
func checkStatus(leaf, issuer *x509.Certificate, url string) error {
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		request, err := ocsp.CreateRequest(leaf, issuer, &ocsp.RequestOptions{Hash: hash})
		if err != nil {
			return err
		}
		answer, err := http.Post(url, "application/ocsp-request", bytes.NewReader(request))
		if err != nil {
			return err
		}
		der, err := io.ReadAll(answer.Body)
		if err = errors.Join(err, answer.Body.Close()); err != nil {
			return err
		}
		response, err := ocsp.ParseResponseForCert(der, leaf, issuer)
		if err != nil {
			return err
		}
		switch now := time.Now(); {
		case response.Certificate == nil:
			return errors.New("the issuer answered itself, and had delegated it")
		case now.Before(response.ThisUpdate) || now.After(response.NextUpdate):
			return errors.New("the answer is not in force")
		case response.Status == ocsp.Revoked:
			return fmt.Errorf("certificate 0 is revoked, reason %d", response.RevocationReason)
		case response.Status != ocsp.Good:
			return errors.New("the responder does not know the certificate")
		}
	}
	return nil
}
