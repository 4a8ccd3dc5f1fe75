-- What did fees earn on each day?
select
    revenue_date,
    currency,
    sum(charged) as charged,
    sum(taken_back) as taken_back,
    sum(revenue) as revenue
from fee_revenue_daily
where ledger = $ledger
group by revenue_date, currency
order by revenue_date, currency
