/* SPDX-License-Identifier: Apache-2.0 */
#include "base/address.h"

#include "base/digest.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

void address_network(const char *host, char out[static ADDRESS_NETWORK_LEN])
{
    struct in6_addr v6;

    (void)snprintf(out, ADDRESS_NETWORK_LEN, "%s", host);
    if (inet_pton(AF_INET6, host, &v6) == 1 && !IN6_IS_ADDR_V4MAPPED(&v6))
        hex_encode(&v6, sizeof(v6) / 2, out);
}
