/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/socket_path.h"

#include "base/digest.h"

#include <stdio.h>
#include <string.h>

#define HASH_LEN     16
#define NAME_MAX_LEN 63

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

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_letter_or_digit(char c)
{
    return is_letter(c) || (c >= '0' && c <= '9');
}

/* Whether it has 1 to 63 letters, digits, "-", "_" and ".", and is_end() at both ends. */
static bool is_name(const char *name, bool (*is_end)(char c))
{
    size_t len = strlen(name);

    if (len < 1 || len > NAME_MAX_LEN || !is_end(name[0]) || !is_end(name[len - 1]))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_letter_or_digit(name[i]) && !strchr("-_.", name[i]))
            return false;
    return true;
}

bool socket_path_check_node(const char *id, struct error *err)
{
    return is_name(id, is_letter_or_digit) ||
           error_set(
               err, ERROR_INVALID_ARGUMENT,
               "--node-id: \"%s\" cannot be a label of the node, as Kubernetes needs: give 1 to "
               "%d letters, digits, \"-\", \"_\" and \".\" between two letters or digits",
               id, NAME_MAX_LEN);
}

bool socket_path_check_driver(const char *name, struct error *err)
{
    return is_name(name, is_letter) ||
           error_set(err, ERROR_INVALID_ARGUMENT,
                     "--driver-name: \"%s\" is not 1 to %d letters, digits, \"-\", \"_\" "
                     "and \".\" between two letters",
                     name, NAME_MAX_LEN);
}
