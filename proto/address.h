/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

/* The host of a peer's URI as gRPC writes it: "ipv4:192.0.2.1:7443" gives "192.0.2.1", and
 * "ipv6:%5B2001:db8::1%5D:7443" "2001:db8::1". False for unix sockets and all else. */
#define ADDRESS_HOST_MAX 63 /* bytes, without NUL; IPv6 with a zone has less */
bool address_host(const char *uri, char out[static ADDRESS_HOST_MAX + 1]);

/* The name that rate limits count by: an IPv4 address, or the /64 of an IPv6 address, because
 * one host usually has a whole /64. */
#define ADDRESS_NETWORK_LEN (ADDRESS_HOST_MAX + 1) /* bytes, with NUL */
void address_network(const char *host, char out[static ADDRESS_NETWORK_LEN]);
