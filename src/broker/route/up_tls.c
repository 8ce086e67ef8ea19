/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/route/up_conn.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static SSL_CTX *ctx_new(void)
{
	SSL_CTX *x = SSL_CTX_new(TLS_client_method());

	if (!x)
		return NULL;
	SSL_CTX_set_verify(x, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_mode(x, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
			    SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_options(x, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
	/* each connection shakes hands in full: no session crosses credentials */
	(void)SSL_CTX_set_session_cache_mode(x, SSL_SESS_CACHE_OFF);
	if (!SSL_CTX_set_min_proto_version(x, TLS1_2_VERSION)) {
		SSL_CTX_free(x);
		return NULL;
	}
	return x;
}

int up_tls_new(struct up_tls **out, const char *ca_file, struct cl_err *err)
{
	struct up_tls *t = calloc(1, sizeof *t);

	if (!t || !(t->ctx = ctx_new())) {
		free(t);
		return cl_fail(err, ENOMEM, "tls");
	}
	if (!SSL_CTX_load_verify_file(t->ctx, ca_file)) {
		SSL_CTX_free(t->ctx);
		free(t);
		return cl_fail(err, ENOENT, "tls: no certificates in %s (package ca-certificates)", ca_file);
	}
	*out = t;
	return 0;
}

int up_trust_new(struct up_trust **out, struct span pem, struct cl_err *err)
{
	struct up_trust *t = calloc(1, sizeof *t);
	BIO *bio = pem.n <= 65536 ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
	int n = 0;

	if (t && bio && (t->ctx = ctx_new())) {
		X509 *x;

		while ((x = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
			n += X509_STORE_add_cert(SSL_CTX_get_cert_store(t->ctx), x);
			X509_free(x);
		}
	}
	ERR_clear_error();
	BIO_free(bio);
	if (n == 0) {
		up_trust_free(t);
		return cl_fail(err, EINVAL, "ca: no certificate in PEM form");
	}
	*out = t;
	return 0;
}

void up_trust_free(struct up_trust *t)
{
	if (!t)
		return;
	SSL_CTX_free(t->ctx);
	free(t);
}

int up_tls_start(struct up_conn *k)
{
	const struct up_target *t = &k->call->t;
	union addr literal;
	bool ok;

	ERR_clear_error();
	k->ssl = SSL_new(t->trust ? t->trust->ctx : k->u->tls->ctx);
	if (!k->ssl)
		return -ENOMEM;
	ok = SSL_set_fd(k->ssl, k->fd) == 1;
	if (addr_literal(t->host, 0, &literal))
		ok = ok && X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(k->ssl), t->host) == 1;
	else
		ok = ok && SSL_set1_host(k->ssl, t->host) == 1 &&
		     SSL_set_tlsext_host_name(k->ssl, t->host) == 1;
	SSL_set_hostflags(k->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	SSL_set_connect_state(k->ssl);
	return ok ? 0 : -EPROTO;
}

int up_tls_step(struct up_conn *k, char *words, size_t n)
{
	ERR_clear_error();
	int r = SSL_do_handshake(k->ssl);

	if (r == 1)
		return 1;
	switch (SSL_get_error(k->ssl, r)) {
	case SSL_ERROR_WANT_READ:
		k->can_read = false;
		return 0;
	case SSL_ERROR_WANT_WRITE:
		k->can_write = false;
		return 0;
	default:
		break;
	}
	long v = SSL_get_verify_result(k->ssl);
	unsigned long e = ERR_peek_last_error();

	if (v != X509_V_OK)
		(void)snprintf(words, n, "its certificate is not trusted: %s",
			       X509_verify_cert_error_string(v));
	else if (e)
		(void)snprintf(words, n, "%s", ERR_reason_error_string(e));
	else
		(void)snprintf(words, n, "the connection ended during the handshake");
	ERR_clear_error();
	return -EPROTO;
}

static ssize_t outcome(struct up_conn *k, int r, bool reading)
{
	int e = SSL_get_error(k->ssl, r);

	ERR_clear_error();
	if (e == SSL_ERROR_WANT_READ) {
		k->can_read = false;
		return -EAGAIN;
	}
	if (e == SSL_ERROR_WANT_WRITE) {
		k->can_write = false;
		return -EAGAIN;
	}
	return reading && e == SSL_ERROR_ZERO_RETURN ? 0 : -EPIPE;
}

ssize_t up_tls_read(struct up_conn *k, void *p, size_t n)
{
	ERR_clear_error();
	int r = SSL_read(k->ssl, p, n > INT_MAX ? INT_MAX : (int)n);

	return r > 0 ? r : outcome(k, r, true);
}

ssize_t up_tls_write(struct up_conn *k, const void *p, size_t n)
{
	ERR_clear_error();
	int r = SSL_write(k->ssl, p, n > INT_MAX ? INT_MAX : (int)n);

	return r > 0 ? r : outcome(k, r, false);
}
