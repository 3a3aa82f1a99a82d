/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/grpc_ping.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* RFC 9113, sections 3.4, 4.1 and 6.7 */
#define PREFACE    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS   "\0\0\0\4\0\0\0\0\0"
#define PING       "\0\0\10\6\0\0\0\0\0" PING_WORD
#define PING_WORD  "aliveyet"
#define HEADER_LEN 9
#define FRAME_MAX  16384 /* of a payload, as long as nobody agreed to more */
#define TYPE_PING  6
#define FLAG_ACK   1

/* Reads exactly len bytes; bytes may be NULL. */
static bool receive(int fd, uint8_t *bytes, size_t len, uint64_t until_ms)
{
    uint8_t unused[256] = { 0 };

    while (len > 0) {
        struct pollfd wait = { .fd = fd, .events = POLLIN };
        uint64_t now_ms = clock_now_ms();
        size_t max = !bytes && len > sizeof(unused) ? sizeof(unused) : len;

        if (now_ms >= until_ms)
            return false;
        if (poll(&wait, 1, (int)(until_ms - now_ms)) <= 0)
            continue;
        ssize_t n = recv(fd, bytes ? bytes : unused, max, MSG_DONTWAIT);

        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        if (n > 0) {
            len -= (size_t)n;
            bytes = bytes ? bytes + n : NULL;
        }
    }
    return true;
}

bool grpc_ping(int fd, uint64_t wait_ms)
{
    static const char greeting[] = PREFACE SETTINGS PING;
    uint64_t until_ms = clock_now_ms() + wait_ms;
    uint8_t header[HEADER_LEN], word[sizeof(PING_WORD) - 1];

    if (send(fd, greeting, sizeof(greeting) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) !=
        sizeof(greeting) - 1)
        return false;
    while (receive(fd, header, sizeof(header), until_ms)) {
        size_t len = (size_t)header[0] << 16 | (size_t)header[1] << 8 | header[2];

        if (len > FRAME_MAX)
            return false;
        if (header[3] == TYPE_PING && (header[4] & FLAG_ACK) && len == sizeof(word))
            return receive(fd, word, sizeof(word), until_ms) &&
                   memcmp(word, PING_WORD, sizeof(word)) == 0;
        if (!receive(fd, NULL, len, until_ms))
            return false;
    }
    return false;
}
