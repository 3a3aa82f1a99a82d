/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/address.h"

#include "base/digest.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* One character of a URI; false at "%" without two hex digits, and for NUL. */
static bool next_character(const char **at, char *out)
{
    uint8_t byte = 0;

    if (**at == '%') {
        char digits[3] = { (*at)[1] };

        if (digits[0] != '\0')
            digits[1] = (*at)[2];
        if (!hex_decode(digits, &byte, 1) || byte == 0)
            return false;
        *out = (char)byte;
        *at += 3;
        return true;
    }
    *out = *(*at)++;
    return *out != '\0';
}

static bool unescape(const char *text, char out[static ADDRESS_HOST_MAX + 1])
{
    size_t len = 0;

    while (*text) {
        if (len == ADDRESS_HOST_MAX || !next_character(&text, &out[len]))
            return false;
        len++;
    }
    out[len] = '\0';
    return true;
}

bool address_host(const char *uri, char out[static ADDRESS_HOST_MAX + 1])
{
    char text[ADDRESS_HOST_MAX + 1];
    bool is_v6 = strncmp(uri, "ipv6:", 5) == 0;

    if ((!is_v6 && strncmp(uri, "ipv4:", 5) != 0) || !unescape(uri + 5, text))
        return false;
    char *colon = strrchr(text, ':');
    if (!colon || colon == text)
        return false;
    *colon = '\0';
    char *host = text;
    size_t len = strlen(host);
    if (is_v6) {
        if (len < 3 || host[0] != '[' || host[len - 1] != ']')
            return false;
        host[len - 1] = '\0';
        host++;
    }
    memcpy(out, host, strlen(host) + 1);
    return true;
}

void address_network(const char *host, char out[static ADDRESS_NETWORK_LEN])
{
    struct in6_addr v6;

    (void)snprintf(out, ADDRESS_NETWORK_LEN, "%s", host);
    if (inet_pton(AF_INET6, host, &v6) == 1 && !IN6_IS_ADDR_V4MAPPED(&v6))
        hex_encode(&v6, sizeof(v6) / 2, out);
}
