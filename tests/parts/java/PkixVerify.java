import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.cert.CRL;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertStore;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Date;
import java.util.EnumSet;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * Lets Java's PKIX validator judge what Signet emits: {@code PkixVerify [-at time] [-ocsp url] root.pem chain.pem
 * [crl.pem ...]}.
 *
 * <p>Prints one line, "ok" or the error, and exits with 0 or 1; 2 means that it was called wrongly. Revocation is
 * checked when CRLs are given, and then every certificate of the chain needs one: that is Java's own rule. With a
 * responder, it is asked about the leaf.
 */
public final class PkixVerify {
    private PkixVerify() {}

    public static void main(String[] args) throws Exception {
        List<String> files = new ArrayList<>(List.of(args));
        Date at = null;
        URI ocsp = null;
        if (files.size() >= 2 && files.get(0).equals("-at")) {
            at = Date.from(Instant.parse(files.get(1)));
            files.subList(0, 2).clear();
        }
        if (files.size() >= 2 && files.get(0).equals("-ocsp")) {
            ocsp = URI.create(files.get(1));
            files.subList(0, 2).clear();
        }
        if (files.size() < 2) {
            System.err.println("usage: PkixVerify [-at time] [-ocsp url] root.pem chain.pem [crl.pem ...]");
            System.exit(2);
        }
        try {
            validate(at, ocsp, files.get(0), files.get(1), files.subList(2, files.size()));
            System.out.println("ok");
        } catch (CertPathValidatorException e) {
            System.out.println(e.getMessage() + " (certificate " + e.getIndex() + ", " + e.getReason() + ")");
            System.exit(1);
        } catch (GeneralSecurityException | IOException e) {
            System.out.println(e);
            System.exit(1);
        }
    }

    private static void validate(
            Date at, URI ocsp, String rootFile, String chainFile, List<String> crlFiles)
            throws GeneralSecurityException, IOException {
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        List<X509Certificate> roots = certificates(factory, rootFile);

        Set<TrustAnchor> anchors = new HashSet<>();
        for (X509Certificate root : roots) {
            anchors.add(new TrustAnchor(root, null));
        }
        // A path ends below its trust anchor; PKIX takes an anchor inside the path for one CA more.
        List<X509Certificate> chain = certificates(factory, chainFile);
        chain.removeAll(roots);
        if (chain.isEmpty()) {
            // The validator takes an empty path for a valid one.
            throw new CertificateException(chainFile + ": no certificate below the roots");
        }

        PKIXParameters parameters = new PKIXParameters(anchors);
        parameters.setDate(at);
        parameters.setRevocationEnabled(!crlFiles.isEmpty());
        parameters.addCertStore(
                CertStore.getInstance("Collection", new CollectionCertStoreParameters(crls(factory, crlFiles))));
        CertPathValidator validator = CertPathValidator.getInstance("PKIX");
        if (ocsp != null) {
            PKIXRevocationChecker checker = (PKIXRevocationChecker) validator.getRevocationChecker();
            checker.setOcspResponder(ocsp);
            checker.setOptions(EnumSet.of(
                    PKIXRevocationChecker.Option.ONLY_END_ENTITY, PKIXRevocationChecker.Option.NO_FALLBACK));
            parameters.addCertPathChecker(checker);
        }
        validator.validate(factory.generateCertPath(chain), parameters);
    }

    private static List<X509Certificate> certificates(CertificateFactory factory, String file)
            throws GeneralSecurityException, IOException {
        List<X509Certificate> all = new ArrayList<>();
        try (InputStream in = Files.newInputStream(Path.of(file))) {
            factory.generateCertificates(in).forEach(each -> all.add((X509Certificate) each));
        }
        return all;
    }

    private static List<CRL> crls(CertificateFactory factory, List<String> files)
            throws GeneralSecurityException, IOException {
        List<CRL> all = new ArrayList<>();
        for (String file : files) {
            try (InputStream in = Files.newInputStream(Path.of(file))) {
                all.addAll(factory.generateCRLs(in));
            }
        }
        return all;
    }
}
