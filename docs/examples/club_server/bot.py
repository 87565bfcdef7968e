"""The club's chat bot: a line on standard input is a message, a line back the answer.

A real bot has these functions behind the events of its chat library.
"""

from __future__ import annotations

import sys

from storage import load, one_at_a_time, save

BLOCKED = "you are blocked"


def daily(_guild: str, user: str, _words: list[str]) -> str:
    with one_at_a_time("economy.json"):
        economy = load("economy.json", {})
        economy.setdefault(user, {"wallet": 0, "bank": 0, "used_codes": []})
        economy[user]["wallet"] += 100
        save("economy.json", economy)
    return f"you have {economy[user]['wallet']}"


def deposit(_guild: str, user: str, words: list[str]) -> str:
    with one_at_a_time("economy.json"):
        economy = load("economy.json", {})
        amount = min(int(words[0]), economy[user]["wallet"])
        economy[user]["wallet"] -= amount
        economy[user]["bank"] = economy[user].get("bank", 0) + amount
        save("economy.json", economy)
    return f"you have {economy[user]['bank']} in the bank"


def redeem(_guild: str, user: str, words: list[str]) -> str:
    with one_at_a_time("economy.json"):
        economy = load("economy.json", {})
        used = economy[user].setdefault("used_codes", [])
        if words[0] in used:
            return "you have used this code"
        used.append(words[0])
        economy[user]["wallet"] += 250
        save("economy.json", economy)
    return "250 more"


def warn(guild: str, _user: str, words: list[str]) -> str:
    with one_at_a_time("warnings.json"):
        warnings = load("warnings.json", {})
        of_user = warnings.setdefault(guild, {}).setdefault(words[0], [])
        of_user.append({"reason": " ".join(words[1:]), "number": len(of_user) + 1})
        save("warnings.json", warnings)
    return f"{words[0]} has {len(of_user)} warnings"


def forgive(guild: str, _user: str, words: list[str]) -> str:
    with one_at_a_time("warnings.json"):
        warnings = load("warnings.json", {})
        forgiven = warnings.get(guild, {}).pop(words[0], [])
        save("warnings.json", warnings)
    return f"{len(forgiven)} warnings are forgiven"


def prefix(guild: str, _user: str, words: list[str]) -> str:
    with one_at_a_time("prefixes.json"):
        prefixes = load("prefixes.json", {})
        prefixes[guild] = words[0]
        save("prefixes.json", prefixes)
    return f"the prefix is {words[0]} now"


def block(_guild: str, _user: str, words: list[str]) -> str:
    with one_at_a_time("blocked.json"):
        blocked = load("blocked.json", [])
        if words[0] not in blocked:
            blocked.append(words[0])
            save("blocked.json", blocked)
    return f"{len(blocked)} are blocked"


def unblock(_guild: str, _user: str, words: list[str]) -> str:
    with one_at_a_time("blocked.json"):
        blocked = load("blocked.json", [])
        blocked.remove(words[0])
        save("blocked.json", blocked)
    return f"{len(blocked)} are blocked"


def rich(_guild: str, _user: str, _words: list[str]) -> str:
    economy = load("economy.json", {})
    order = sorted(economy.items(), key=lambda item: -item[1]["wallet"])
    return ", ".join(name for name, _ in order[:3])


COMMANDS = {
    each.__name__: each
    for each in (daily, deposit, redeem, warn, forgive, prefix, block, unblock, rich)
}


def answer(message: str) -> str:
    """The bot's answer to ``GUILD USER COMMAND WORDS...``."""
    guild, user, command, *words = message.split()
    if user in load("blocked.json", []):
        return BLOCKED
    if command not in COMMANDS:
        return f"my commands are {', '.join(COMMANDS)}"
    return COMMANDS[command](guild, user, words)


def main() -> None:
    for line in sys.stdin:
        print(answer(line), flush=True)


if __name__ == "__main__":
    main()
