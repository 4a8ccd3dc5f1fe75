-- What did each party hold at the end of a day?
select
    party,
    account_class,
    custodial,
    currency,
    balance
from party_positions_daily
where ledger = $ledger and position_date <= cast($day as date)
qualify
    row_number() over (
        partition by party, account_class, custodial, currency order by position_date desc
    ) = 1
order by party, account_class, custodial, currency
