from tenants.tests.support.fixtures import ann, inbox, indexer, mail_server, outbox

__all__ = ["ann", "inbox", "indexer", "mail_server", "outbox"]
