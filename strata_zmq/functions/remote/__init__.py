"""The client of a dispatcher over ZeroMQ: one conversation, with a threaded and an asyncio face."""
