"""Refunds: money goes back the way it came."""


def refund(payment, amount):
    """Pay it back; ValueError for more than is left."""
    if amount > payment.amount - payment.refunded:
        raise ValueError("more than is left")
    payment.provider.refund(payment.id, amount)
    payment.refunded += amount
