{# Two roads to where things stand: the last row of each line here, summed by group, is the sum there. #}
{% test same_closing(
    model, line, period, closing, group_by, other_model, other_closing, other_condition='true'
) %}
with in_order as (
    select
        {{ line | join(', ') }},
        {{ closing }} as closing,
        row_number() over (
            partition by {{ line | join(', ') }} order by {{ period }} desc
        ) as age
    from {{ model }}
),

both_roads as (
    select
        {{ group_by | join(', ') }},
        closing
    from in_order
    where age = 1
    union all
    select
        {{ group_by | join(', ') }},
        -({{ other_closing }})
    from {{ other_model }}
    where {{ other_condition }}
)

select
    {{ group_by | join(', ') }},
    {{ sum_money('closing') }} as difference
from both_roads
group by {{ group_by | join(', ') }}
having {{ sum_money('closing') }} <> 0
{% endtest %}
