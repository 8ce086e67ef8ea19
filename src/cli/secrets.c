/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secret set - a key goes from the terminal (no echo) or stdin into locked
 * memory, is sealed to the broker's public key, wiped, and only the box
 * leaves this process.
 */
#include "cli/cli.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define SECRET_MAX 8192u

static int read_secret(unsigned char *out, size_t *out_n)
{
	bool tty = isatty(0);
	struct termios was, quiet;
	size_t n = 0;

	if (tty) {
		fprintf(stderr, "the key (not shown): ");
		if (tcgetattr(0, &was) < 0)
			return cli_fail(EXIT_FAILED, "the terminal cannot be told not to echo");
		quiet = was;
		quiet.c_lflag &= ~(tcflag_t)ECHO;
		if (tcsetattr(0, TCSAFLUSH, &quiet) < 0)
			return cli_fail(EXIT_FAILED, "the terminal cannot be told not to echo");
	}
	for (;;) {
		ssize_t k = read(0, out + n, SECRET_MAX + 1 - n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			break;
		n += (size_t)k;
		if (n > SECRET_MAX || (tty && out[n - 1] == '\n'))
			break;
	}
	if (tty) {
		(void)tcsetattr(0, TCSAFLUSH, &was);	/* nothing else to do */
		fputc('\n', stderr);
	}
	if (n > SECRET_MAX)
		return cli_fail(EXIT_FAILED, "longer than %u bytes: not a key", SECRET_MAX);
	while (n > 0 && (out[n - 1] == '\n' || out[n - 1] == '\r'))
		n--;
	if (n == 0)
		return cli_fail(EXIT_FAILED, "nothing was given");
	for (size_t i = 0; i < n; i++)
		if (out[i] < 0x20 || out[i] == 0x7f)
			return cli_fail(EXIT_FAILED, "a key is one line without control characters");
	*out_n = n;
	return 0;
}

/* the box as base64 */
static int seal(const char *pubkey64, const unsigned char *secret, size_t n, char *out, size_t out_size)
{
	unsigned char pk[crypto_box_PUBLICKEYBYTES], box[SECRET_MAX + crypto_box_SEALBYTES];
	size_t pk_len = 0;

	if (!pubkey64 || sodium_base642bin(pk, sizeof pk, pubkey64, strlen(pubkey64), NULL, &pk_len, NULL,
					   sodium_base64_VARIANT_ORIGINAL) != 0 || pk_len != sizeof pk)
		return cli_fail(EXIT_FAILED, "the service gave no usable public key");
	if (crypto_box_seal(box, secret, n, pk) != 0)
		return cli_fail(EXIT_FAILED, "sealing failed");
	(void)sodium_bin2base64(out, out_size, box, n + crypto_box_SEALBYTES, sodium_base64_VARIANT_ORIGINAL);
	return 0;
}

int cmd_secret_set(struct cli *c)
{
	static char box64[sodium_base64_ENCODED_LEN(SECRET_MAX + crypto_box_SEALBYTES, sodium_base64_VARIANT_ORIGINAL)];
	unsigned char *secret;
	json_t *key = NULL, *body, *a = NULL;
	size_t n = 0;
	int r;

	if (!name_ok(span_str(c->arg[0])))
		return cli_fail(EXIT_USAGE, "'%s' is not a name: a-z, 0-9, - and _, at most 64", c->arg[0]);
	if (sodium_init() < 0)
		return cli_fail(EXIT_FAILED, "libsodium does not start");
	/* first the service: nobody should type a key in vain */
	r = client_do(c, "GET", "/v1/pubkey", NULL, &key);
	if (r)
		return r;
	secret = sodium_malloc(SECRET_MAX + 1);
	if (!secret)
		r = cli_fail(EXIT_FAILED, "no locked memory");
	if (r == 0)
		r = read_secret(secret, &n);
	if (r == 0)
		r = seal(json_string_value(json_object_get(key, "pubkey")), secret, n, box64, sizeof box64);
	sodium_free(secret);	/* wipes; NULL is fine */
	json_decref(key);
	if (r)
		return r;
	body = json_pack("{s:s}", "sealed", box64);
	r = client_do(c, "PUT", client_path("/v1/secrets/%s", c->arg[0]), body, &a);
	json_decref(body);
	if (r == EXIT_OK && !client_print_json(c, a)) {
		const char *f = json_string_value(json_object_get(a, "fingerprint"));

		printf("secret '%s' is stored (fingerprint %s)\n", c->arg[0], f ? f : "-");
	}
	json_decref(a);
	return r;
}

int cmd_secret_list(struct cli *c)
{
	json_t *a = NULL;
	const json_t *s;
	size_t i;
	int r = client_do(c, "GET", "/v1/secrets", NULL, &a);

	if (r == EXIT_OK && !client_print_json(c, a)) {
		printf("%-24s %-20s %-20s %s\n", "NAME", "SINCE (UTC)", "FINGERPRINT", "ROUTES");
		json_array_foreach(json_object_get(a, "secrets"), i, s) {
			char at[40];
			const json_t *route;
			size_t k;

			cl_time_rfc3339(json_integer_value(json_object_get(s, "put_us")), at, sizeof at);
			at[19] = '\0';
			printf("%-24s %-20s %-20s", json_string_value(json_object_get(s, "name")), at,
			       json_string_value(json_object_get(s, "fingerprint")));
			json_array_foreach(json_object_get(s, "routes"), k, route)
				printf(" %s", json_string_value(route));
			putchar('\n');
		}
	}
	json_decref(a);
	return r;
}

int cmd_secret_rm(struct cli *c)
{
	json_t *a = NULL;
	int r;

	if (!name_ok(span_str(c->arg[0])))
		return cli_fail(EXIT_USAGE, "'%s' is not a name: a-z, 0-9, - and _, at most 64", c->arg[0]);
	r = client_do(c, "DELETE", client_path("/v1/secrets/%s", c->arg[0]), NULL, &a);
	if (r == EXIT_OK && !client_print_json(c, a))
		printf("secret '%s' is removed\n", c->arg[0]);
	json_decref(a);
	return r;
}
