/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/socket_path.h"

#include "base/digest.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define HASH_LEN   16
#define DRIVER_MAX 63

bool socket_path_parse(const char *endpoint, const char **out, struct error *err)
{
    static const char prefix[] = "unix:";
    const char *path = endpoint + strlen(prefix);

    if (strncmp(endpoint, prefix, strlen(prefix)) != 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--endpoint: \"%s\" is not unix:///PATH",
                         endpoint);
    if (strncmp(path, "//", 2) == 0)
        path += 2;
    if (path[0] != '/' || path[1] == '\0')
        return error_set(err, ERROR_INVALID_ARGUMENT, "--endpoint: \"%s\" has no absolute path",
                         endpoint);
    *out = path;
    return true;
}

bool socket_path_lock(const char *state_dir, const char *socket, const char *kind,
                      char out[static SOCKET_LOCK_MAX], struct error *err)
{
    uint8_t digest[SHA256_LEN];
    char name[BASE32_LEN(HASH_LEN) + 1];

    if (!sha256(socket, strlen(socket), digest, err))
        return false;
    base32_encode(digest, HASH_LEN, name);
    int n = snprintf(out, SOCKET_LOCK_MAX, "%s/%s.%s", state_dir, name, kind);
    return (n > 0 && n < SOCKET_LOCK_MAX) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "--state-dir is too long");
}

bool socket_path_check_driver(const char *name, struct error *err)
{
    size_t len = strlen(name);
    bool ok = len >= 1 && len <= DRIVER_MAX && isalpha((unsigned char)name[0]) &&
              isalpha((unsigned char)name[len - 1]);

    for (size_t i = 0; i < len; i++)
        ok = ok && (isalnum((unsigned char)name[i]) || strchr("-_.", name[i]));
    return ok || error_set(err, ERROR_INVALID_ARGUMENT,
                           "--driver-name: \"%s\" is not 1 to %d letters, digits, \"-\", \"_\" "
                           "and \".\" between two letters",
                           name, DRIVER_MAX);
}
