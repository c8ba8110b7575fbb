"""OpenAI's chat completions in the router's words and back. Pure: bytes and values, no HTTP.

What the router cannot honour is refused by name instead of being passed over, but for fields at their neutral value.
Field by field: docs/applications.md, and https://platform.openai.com/docs/api-reference/chat.
"""
