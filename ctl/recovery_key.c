/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/recovery_key.h"

#include "base/file.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

#define KEY_BYTES_MAX 16384u

/* The passphrase goes into OpenSSL's buffer, which OpenSSL wipes, and nowhere else. */
static int read_line(int fd, char *buffer, int size)
{
    int len = 0;

    while (len < size) {
        ssize_t n = read(fd, buffer + len, 1); /* what follows the line is for others */

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0 || buffer[len] == '\n')
            return len;
        len++;
    }
    return -1;
}

static int ask(char *buffer, int size, void *cookie)
{
    const int *fd = cookie;

    if (*fd >= 0)
        return read_line(*fd, buffer, size);
    if (EVP_read_pw_string_min(buffer, 1, size, "Passphrase of the recovery key: ", 0) != 0)
        return -1;
    return (int)strnlen(buffer, (size_t)size);
}

bool recovery_key_load(const char *path, int passphrase_fd, struct recovery_key **out,
                       struct error *err)
{
    auto_secret struct secret pem = SECRET_INIT;

    return file_read_private(path, KEY_BYTES_MAX, &pem, err) &&
           (recovery_key_read(&pem, ask, &passphrase_fd, out, err) || error_wrap(err, "%s", path));
}
