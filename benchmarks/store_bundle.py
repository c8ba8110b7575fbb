"""What the replayed day runs against: its bundle, its documents, and the answers of the stand-in for its models.

Policy and products are those of tau2's shop. Guardrails and Cedar policies are the sample bundle's.
"""

import hashlib
from pathlib import Path
from typing import Any

from benchmarks.store_day import APPLICATIONS
from recipes.corpora import retail, retail_policy
from schemas.bundle import Bundle, load_bundle

# A tenant and application of its own, so that no figure holds what is asked before all runs as fast as it will.
WARM_UP = "warm-up"
ANSWERS = (
    "There are 14 left, 6 of them on the shelf and 8 in the back room, aisle 12. The next delivery comes on Thursday "
    "before opening. If the customer wants one today, the store on Mill Road had 3 an hour ago.",
    "Yes, within 30 days and with the receipt or the order number. Check that nothing is missing, then choose the "
    "original payment method or a gift card. A refund to a card takes five to seven days.",
    "We carry three that fit. The cheapest is in stock here; the other two can be here tomorrow.",
    "That needs the manager on duty. Enter the order number, list both items, read the details back to the customer, "
    "and go on only when they have said yes. The address of an order that is on its way can't be changed.",
    "You have 32 hours this week: Monday, Tuesday and Friday from 7 to 15, and Saturday from 10 to 18.",
    "No.",
)
# A small model begins with a chance of 0.5, so where customers ask, the large one answers.
_BARS = {"customer-care": 0.6}
_TASK = {
    "generic_prompt": "You help the staff and customers of a shop. Use only what the documents say. Answer in the "
    "language of the question, in three sentences at most.",
    "specialist_prompt": "You help a shop.",
}
# By these, the router tells the task of a request of the one application that doesn't say it.
_EXAMPLES = {
    "stock": (
        "How many garden hoses do we have in the back?",
        "Is there a grill left in another store?",
        "When is the next delivery?",
        "The count on the shelf is wrong",
        "Reserve two chairs for pickup",
        "Which store nearby has it in blue?",
    ),
    "product-search": (
        "Find the item number of the wall clock",
        "What is the difference between these two cameras?",
        "A customer wants a tablet under 300 dollars",
        "Do we carry waterproof boots?",
        "Which keyboard is quieter?",
        "What goes with this helmet?",
    ),
    "store-policy": (
        "May I accept a return without a receipt?",
        "Who has to sign a large refund?",
        "Can two cards be used for one order?",
        "Are exchanges for another product allowed?",
        "How long after purchase is a return allowed?",
        "May we change the address of a processed order?",
    ),
}


def key_of(application: str) -> str:
    """Return the key that an application shows."""
    return f"key-of-{application}"


def bundle(stand_in_port: int) -> Bundle:
    """Return what the operator of the day has decided, with all models at the stand-in."""
    sample = load_bundle(Path("deploy/bundle")).model_dump()
    callers = {name: (each.tenant, tuple(each.tasks)) for name, each in APPLICATIONS.items()}
    callers[WARM_UP] = (WARM_UP, (WARM_UP,))
    content: dict[str, Any] = {
        "tenants": {
            tenant: {"region": "eu", "routing": {"bar": _BARS.get(tenant, 0.5)}} for tenant, _ in callers.values()
        },
        "applications": {
            name: {
                "tenant": tenant,
                "tasks": tasks,
                "purpose": "assistance",
                "key_sha256": [hashlib.sha256(key_of(name).encode()).hexdigest()],
            }
            for name, (tenant, tasks) in callers.items()
        },
        "upstreams": {"stand-in": {"url": f"http://127.0.0.1:{stand_in_port}/v1"}},
        "models": {
            tier: {
                "tier": tier,
                "upstream": "stand-in",
                "served_as": tier,
                "max_tokens": 256,
                "region": "eu",
                "price": {"per_million_prompt_tokens": price, "per_million_completion_tokens": 4 * price},
            }
            for tier, price in (("small", 0.1), ("large", 2.0))
        },
        "tasks": {
            task: {"tenant": tenant, **_TASK, "examples": _EXAMPLES.get(task, ())}
            for tenant, tasks in callers.values()
            for task in tasks
        },
        "guardrails": sample["guardrails"],
        "policies": sample["policies"],
    }
    return Bundle.model_validate(content)


def products() -> dict[str, list[str]]:
    """Return what tau2's shop sells, with the options of each product's variants."""
    return {
        product["name"]: sorted(
            {str(option) for variant in product["variants"].values() for option in variant["options"].values()}
        )
        for product in retail()["products"].values()
    }


def documents() -> dict[str, tuple[str, str]]:
    """Return titles and texts by id: the policy, and each product with its variants."""
    sold = {key: (each["name"], _described(each)) for key, each in retail()["products"].items()}
    return {"policy": ("Retail policy", retail_policy()), **sold}


def _described(product: dict[str, Any]) -> str:
    lines = [
        f"- item {variant['item_id']}: {', '.join(f'{name} {value}' for name, value in variant['options'].items())}; "
        f"{variant['price']} dollars; {'in stock' if variant['available'] else 'sold out'}"
        for variant in product["variants"].values()
    ]
    return "\n".join(lines)
