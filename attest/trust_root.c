/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/trust_root.h"

#ifdef TDVOL_SIMULATOR
#include "base/digest.h"
#include "base/file.h"
#endif

const struct trust_root *trust_root_default = &trust_root_intel;

#ifdef TDVOL_SIMULATOR
enum { ROOT_FILE_MAX = 16384 };

bool trust_root_load_test(const char *path, struct error *err)
{
    static struct trust_root test_root;
    auto_free char *der = NULL;
    size_t len = 0;

    if (!file_read(path, ROOT_FILE_MAX, &der, &len, err))
        return error_wrap(err, "test root");
    const unsigned char *at = (const unsigned char *)der;
    X509 *cert = d2i_X509(NULL, &at, (long)len);
    bool is_der = cert && at == (const unsigned char *)der + len;

    X509_free(cert);
    if (!is_der)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "test root: %s is not one certificate in DER form", path);
    if (!sha256(der, len, test_root.sha256, err))
        return false;
    trust_root_default = &test_root;
    return true;
}
#endif
